from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

from deeplense_batch.core.job import Job, JobError, OverrideError, nearest
from deeplense_batch.core.recipe import (
    evaluation_of,
    load_jobs,
    parse_value,
    run_path,
)
from deeplense_batch.core.sections.dotted import flat_fields

BASE = "model: {name: resnet18}\ndata: {root: d}\n"
SETS = "model: {name: resnet18}\ndata: {root: d, roots: [{root: d}, "


@pytest.fixture
def load(tmp_path: Path):
    def load(text: str, **overrides):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return load_jobs(path, {k.replace("__", "."): v for k, v in overrides.items()})

    return load


def test_a_recipe_without_a_grid_is_one_run_named_after_its_file(load):
    (job,) = load(BASE)
    assert (job.name, job.model.name, job.data.valid) == ("recipe", "resnet18", "val[:50%]")


def test_numbers_and_truth_are_those_of_yaml_1_2(load):
    (job,) = load(BASE + "train: {lr: 3e-5, weight_decay: 0}\ntask: {options: {a: no, b: on}}")
    assert job.train.lr == 3e-5 and job.train.weight_decay == 0.0
    assert job.task.options == {"a": "no", "b": "on"}
    assert parse_value("1e-3") == 1e-3 and parse_value("no") == "no" and parse_value("[") == "["


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BASE + "train: {lrr: 1}", "recipe.yaml: train.lrr: unknown; did you mean 'lr'?"),
        (BASE + "train: {lr: fast}", "train.lr: expected a number, got 'fast'"),
        (BASE + "train: {lr: -1}", "train.lr: should be greater than 0, got -1"),
        (BASE + "train: {lr: .nan}", "train.lr: expected a number, got '.nan'"),
        (BASE + "train: {epochs: true}", "train.epochs: expected a whole number, got True"),
        (BASE + "train: {epochs: 2.5}", "train.epochs: expected a whole number, got 2.5"),
        (BASE + "train: {optimizer: AdamW}", "got 'AdamW'; did you mean 'adamw'?"),
        (BASE + "train: {freeze: stem}", "train.freeze: expected a list of texts, got 'stem'"),
        (BASE + "train: {freeze: null}", "train.freeze: expected a list, got None"),
        (BASE + "train: 3", "train: expected a mapping, got 3"),
        (BASE + "data: {root: e}", "recipe.yaml, line 3: not valid YAML (key 'data' twice)"),
        (BASE + "name: $(rm -rf ~)", "letters, digits, '_', '.' and '-', a letter first"),
        (BASE + 'name: "a\\nb"', "letters, digits, '_', '.' and '-', a letter first"),
        (BASE + "grid: {model.name: a}", "grid.model.name: expected a list of values, got 'a'"),
        (BASE + "grid: {model.nam: [a]}", "model.nam: unknown; did you mean 'name'?"),
        (BASE + "seeds: []", "seeds: expected a list of values, got []"),
        (BASE + "seed: 3\nseeds: [0, 1]", "recipe.yaml: seed and seeds are both given"),
        (BASE + "grid: {seed: [3]}\nseeds: [0, 1]", "grid.seed and seeds are both given"),
        ("model: {name: x}", "recipe.yaml: data: missing"),
        ("model: {nam: x}\ndata: {root: d}", "model.nam: unknown; did you mean 'name'?"),
        (SETS + "{root: e, wieght: 1}]}", "data.roots.1.wieght: unknown; did you mean 'weight'?"),
        (SETS + "{rot: e}]}", "data.roots.1.rot: unknown; did you mean 'root'?"),
        (SETS + "{root: e, weight: big}]}", "data.roots.1.weight: expected a number, got 'big'"),
        (SETS + "e]}", "data.roots.1: expected a mapping, got 'e'"),
        (
            SETS + "{root: e, channels: [1.5]}]}",
            "roots.1.channels: expected a list of bands by name or number, or mean, got [1.5]",
        ),
        ("- a", "expected a mapping of sections, got ['a']"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(load, text, sentence):
    with pytest.raises(JobError) as error:
        load(text)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(JobError, match=r"none\.yaml: cannot be read \(No such file"):
        load_jobs(tmp_path / "none.yaml")


def test_grid_is_a_product_and_seeds_come_on_top(load):
    jobs = load(BASE + "grid: {model.name: [a, b], train.lr: [0.1, 0.2]}\nseeds: [0, 1]")
    points = [(j.model.name, j.train.lr, j.seed) for j in jobs]
    assert points == [(m, lr, s) for m in "ab" for lr in (0.1, 0.2) for s in (0, 1)]


def test_a_list_of_grids_is_their_union(load):
    jobs = load(BASE + "grid: [{model.name: [a, b]}, {model.name: [c], train.batch_size: [8]}]")
    assert [(j.model.name, j.train.batch_size) for j in jobs] == [("a", 64), ("b", 64), ("c", 8)]


def test_an_override_takes_the_place_of_its_axis(load):
    text = BASE + "grid: {model.name: [a, b], train.lr: [0.1, 0.2]}\nseeds: [0, 1]"
    jobs = load(text, model__name="c", seed=4)
    assert [(j.model.name, j.train.lr, j.seed) for j in jobs] == [("c", 0.1, 4), ("c", 0.2, 4)]


def test_seeds_that_are_typed_take_the_place_of_those_of_the_recipe(load):
    for field in ("seeds", "grid.seed"):
        jobs = load(BASE + "seeds: [0, 1]", **{field.replace(".", "__"): [5, 6]})
        assert [job.seed for job in jobs] == [5, 6]


def test_a_wrong_override_is_called_by_its_flag(load):
    with pytest.raises(OverrideError, match=r"^--grid: takes every run of a recipe, with submit"):
        load(BASE, grid=True)
    with pytest.raises(OverrideError, match=r"^--train\.lrr: unknown; did you mean 'lr'\?"):
        load(BASE, train__lrr=3)
    with pytest.raises(OverrideError, match=r"^--train\.epochs: expected a whole number"):
        load(BASE, train__epochs="many")
    with pytest.raises(OverrideError, match=r"^--data\.roots\.0\.wieght: unknown; did you mean"):
        load(BASE, data__roots=[{"root": "d", "wieght": 1}])
    with pytest.raises(OverrideError, match="'model' is a value, not a section"):
        load("model: x\ndata: {root: d}", model__name="a")


def test_identity_is_what_changes_the_result(load):
    (job,) = load(BASE)
    name = job.run_name("digest")
    assert name.startswith("resnet18-s0-") and len(name.rpartition("-")[2]) == 10
    same = load(BASE + "resources: {hours: 9}\nname: other", data__root="elsewhere")[0]
    assert same.identity("digest") == job.identity("digest")
    for change in ({"train__lr": 1.0}, {"seed": 1}, {"data__train": "train[:10%]"}):
        assert load(BASE, **change)[0].identity("digest") != job.identity("digest")
    assert job.identity("other data") != job.identity("digest")


DETECTION = "model: {name: simple_cnn}\ndata: {root: d}\ntask: {name: detection}\n"


def test_purity_and_prevalence_are_no_part_of_an_identity(load):
    """Who trains for one threshold has every other."""
    plain = load(DETECTION)[0].identity("digest")
    assert plain == "e81f3628b4"  # as before they were left out
    for options in ({"purity": 0.9}, {"prevalence": 0.001}, {"purity": 0.5, "prevalence": 0.01}):
        job = load(DETECTION, task__options=options)[0]
        assert job.identity("digest") == plain != job.identity("digest", earlier=True)
        assert job.task.options == options
    focal = load(DETECTION, task__options={"focal": 2, "purity": 0.9})[0]
    assert focal.identity("digest") != plain


def test_a_run_of_an_earlier_version_is_found_whatever_its_purity(load, tmp_path):
    old = load(DETECTION, task__options={"purity": 0.5})[0]
    new = load(DETECTION, task__options={"purity": 0.9})[0]
    assert run_path(tmp_path, new, "digest") == tmp_path / new.run_name("digest")
    made = tmp_path / old.run_name("digest", earlier=True)
    made.mkdir()
    (made / "job.yaml").write_text(old.to_yaml())
    (tmp_path / "simple_cnn-s0-damaged").mkdir()
    (tmp_path / "simple_cnn-s0-damaged" / "job.yaml").write_text("{")
    assert run_path(tmp_path, new, "digest") == run_path(tmp_path, old, "digest") == made
    assert run_path(tmp_path, new, "other") == tmp_path / new.run_name("other")
    seed = load(DETECTION, seed=1)[0]
    assert run_path(tmp_path, seed, "digest") == tmp_path / seed.run_name("digest")


def test_a_run_that_was_renamed_is_known_by_its_weights(load, tmp_path):
    """Two folders of one name are two runs, and one run is the same under its own name."""
    named = tmp_path / "resnet18-s0-0123456789"
    starts = [tmp_path / "a" / "best", tmp_path / "b" / "best", named, tmp_path / "c" / named.name]
    for number, folder in enumerate(starts):
        folder.mkdir(parents=True)
        (folder / "best.pt").write_bytes(bytes(number))
    identities = [load(BASE, train__init=str(s))[0].identity("digest") for s in starts]
    assert len(set(identities)) == 3 and identities[2] == identities[3]
    scored = [evaluation_of([s], None, "", seed=0).identity("digest") for s in starts]
    assert len(set(scored)) == 3 and scored[2] == scored[3]
    (starts[0] / "best.pt").unlink()
    with pytest.raises(JobError, match=r"evaluate\.run: .*best\.pt: No such file"):
        evaluation_of([starts[0]], None, "", seed=0).identity("digest")


def test_a_seed_that_is_none_is_a_sentence():
    with pytest.raises(OverrideError, match=r"^--seed: .*, got 4294967296$"):
        evaluation_of([Path("runs")], None, "", seed=2**32)


def test_identity_is_pinned(load):
    """A changed default renames every result: then the schema number must rise with it."""
    assert load(BASE)[0].identity("digest") == "ec3a1e200d"


def test_a_resolved_job_reads_back_as_itself(load, tmp_path):
    (job,) = load(BASE + "train: {lr: 3e-5}")
    path = tmp_path / "job.yaml"
    path.write_text(job.to_yaml())
    assert load_jobs(path) == [job]
    assert yaml.safe_load(job.to_yaml())["train"]["lr"] == 3e-5


def test_a_model_with_a_path_in_its_name_stays_one_folder(load):
    (job,) = load(BASE, model__name="hf-hub:timm/../resnet18.a1")
    assert "/" not in job.run_name("d") and job.run_name("d")[0].isalpha()


def test_nearest_lists_what_is_allowed_when_nothing_is_near():
    assert nearest("zzz", ["b", "a"]) == "allowed: a, b"


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "jobs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_recipe_loads_and_says_how_it_is_run(path):
    jobs = load_jobs(path)
    assert jobs and path.read_text().startswith("#")
    assert f"jobs/{path.name}" in path.read_text()


def test_the_docs_list_every_field_with_its_default():
    page = (REPOSITORY / "docs" / "jobs.md").read_text()
    table = page.partition("<!-- fields -->")[2].partition("<!-- end of fields -->")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| [^|]* \| ([^|]*) \|", table, re.M)
    listed = {name: parse_value(default.strip("`")) for name, default in rows}
    fields = {"name": "mine", "model": {"name": "resnet18"}, "data": {"root": "x"}}
    job = Job.model_validate(fields).model_dump(mode="json")
    expected = dict(flat_fields(job)) | {"name": "the file's name"}
    expected |= {"model.name": "needed", "data.root": "needed"}
    expected |= {"task.options": {}, "model.options": {}, "data.classes": {}}
    # of an optional section, which the table has whole
    new = dict.fromkeys(("kind", "preset", "digest")) | {"images": "needed", "set": {}}
    assert listed == expected | {f"data.simulate.{name}": value for name, value in new.items()}
