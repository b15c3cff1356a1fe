"""The verbs of finished runs, as they are typed: what they hand on, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import make_job, typed

from deeplense_batch.cli import inference_verbs
from deeplense_batch.cli.values import UsageError
from deeplense_batch.inference import explain, export, predict
from deeplense_batch.inference.generation import sample
from deeplense_batch.inference.restoring import restore
from deeplense_batch.models import weights


@pytest.fixture
def handed_on(monkeypatch):
    """What a verb hands on, instead of doing it."""
    seen = []
    modules = {"predict": predict, "restore": restore, "sample": sample, "explain": explain}
    for name, module in modules.items():
        monkeypatch.setattr(module, name, lambda *words, **flags: seen.append((words, flags)))
    return seen


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("predict RUN DATA --out=a.csv --part=3 --parts=3", "--part: 3 of 3 parts; they count"),
        ("sample RUN --out=a --part=3", "--part: 3 of 1 parts; they count from 0"),
        ("sample RUN --out=a --part=2 --parts=2", "--part: 2 of 2 parts; they count from 0"),
        ("predict RUN DATA --out=a.csv --of=lens", "--of: names the class of a sheet; --top N"),
        (
            "predict RUN DATA --out=a.csv --purity=1",
            "--purity: expected a number between 0 and 1, got 1",
        ),
        (
            "predict RUN DATA --out=a.csv --prevalence=nan",
            "--prevalence: expected a number between 0 and 1, got nan",
        ),
        ("predict RUN DATA --out=a.txt", "--out: expected a name that ends in .parquet or .csv"),
        ("explain RUN --out=a.png", "explain: which images? --ids A,B,C or --slice 'val[:12]'"),
        ("explain RUN --out=a.png --ids=a --slice=val", "explain: which images?"),
        ("fetch", "fetch: no job given has model.pretrained: true, or evaluates"),
    ],
)
def test_what_is_asked_for_in_vain_is_told_before_anything_is_loaded(
    handed_on, line, says, capsys
):
    code, shown, error = typed(capsys, *line.split())
    assert (code, shown) == (2, "") and error.startswith(says) and error.count("\n") == 1
    assert not handed_on


def test_the_words_of_predict_reach_it(handed_on, capsys):
    line = "predict RUN DATA --out=a.csv --slice=val[:3] --part=1 --parts=2 --top=5 --of=lens"
    line += " --purity=0.9 --prevalence=1e-3"
    typed(capsys, *line.split())
    ((words, flags),) = handed_on
    assert words == ([Path("RUN")], Path("DATA"), Path("a.csv")) and callable(flags["on_batch"])
    assert (flags["slice_"], flags["part"], flags["parts"]) == ("val[:3]", 1, 2)
    assert (flags["top"], flags["of"], flags["batch_size"]) == (5, "lens", 256)
    assert (flags["purity"], flags["prevalence"]) == (0.9, 1e-3)


@pytest.fixture
def restoring(tmp_path):
    """A run directory of a network that restores images, as far as a verb looks at it."""
    job = make_job(tmp_path, task={"name": "restoration"}, model={"name": "edsr"})
    (tmp_path / "job.yaml").write_text(job.to_yaml())
    return tmp_path


def test_predict_restores_images_by_a_run_that_does(restoring, handed_on, capsys):
    typed(capsys, "predict", restoring, "DATA", "--out=made", "--files=npy", "--slice=val[:3]")
    ((words, flags),) = handed_on
    assert words == (restoring, Path("DATA"), Path("made")) and callable(flags["on_batch"])
    assert (flags["form"], flags["slice_"], flags["batch_size"]) == ("npy", "val[:3]", 256)


@pytest.mark.parametrize("flag", ["--top=5", "--parts=2", "--purity=0.9", "--prevalence=0.1"])
def test_a_run_that_restores_images_takes_no_words_of_a_table(restoring, handed_on, capsys, flag):
    code, _, error = typed(capsys, "predict", restoring, "DATA", "--out=made", flag)
    assert code == 2 and f"{flag.partition('=')[0]}: is for runs that predict" in error
    code, _, error = typed(capsys, "predict", "RUN", "DATA", "--out=a.csv", "--files=npy")
    assert code == 2 and "--files: is for runs that restore images" in error
    assert not handed_on


@pytest.mark.parametrize(
    ("words", "part"), [([], (2, 4)), (["--part=1", "--parts=3"], (1, 3)), (["--parts=3"], (0, 3))]
)
def test_each_process_of_torchrun_draws_its_part_unless_another_is_named(
    handed_on, capsys, monkeypatch, words, part
):
    for name, value in (("RANK", "2"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    typed(capsys, "sample", "RUN", "--out=drawn", *words)
    ((_, flags),) = handed_on
    assert (flags["part"], flags["parts"]) == part


def test_files_that_are_exported_are_told_with_their_size(tmp_path, capsys, monkeypatch):
    (tmp_path / "model.json").write_bytes(bytes(1_234_567))
    asked = []

    def write(run, out, **how):
        asked.append(how)
        return [tmp_path / "model.json"]

    monkeypatch.setattr(export, "export", write)
    shown = typed(capsys, "export", "RUN", tmp_path, "--format=json", "--schema=bare")[1]
    assert shown == f"{tmp_path / 'model.json'}: 1.23 MB\n"
    assert asked == [{"format_": "json", "schema": "bare", "prepares": False}]


def test_published_weights_of_all_jobs_are_fetched_once_each(tmp_path, capsys, monkeypatch):
    fetched = []

    def fetch(name):
        fetched.append(name)
        (tmp_path / name).write_bytes(bytes(2_000_000))
        return tmp_path / name

    monkeypatch.setattr(weights, "fetch", fetch)
    for name, models in (("one", "[resnet18, lcnet_050]"), ("two", "[resnet18, resnet34]")):
        (tmp_path / f"{name}.yaml").write_text(
            f"model: {{pretrained: true}}\ngrid: {{model.name: {models}}}\ndata: {{root: d}}\n"
        )
    code, shown, error = typed(capsys, "fetch", tmp_path / "one.yaml", tmp_path / "two.yaml")
    assert code == 0, error
    assert fetched == sorted(set(fetched)) and len(fetched) == 3
    assert shown.splitlines() == [f"{tmp_path / name}: 2.0 MB" for name in fetched]


def test_models_of_the_hub_are_fetched_by_name_or_of_recipes(tmp_path, capsys, monkeypatch):
    """What network it is is fetched with it, so a job that starts at random needs it too."""
    fetched = []

    def fetch(name):
        fetched.append(name)
        return tmp_path / "one.yaml"

    monkeypatch.setattr(weights, "fetch", fetch)
    (tmp_path / "one.yaml").write_text("model: {name: 'hf_hub:a/b'}\ndata: {root: d}\n")
    assert typed(capsys, "fetch", tmp_path / "one.yaml", "hf_hub:c/d.e@v1")[0] == 0
    assert fetched == ["hf_hub:a/b", "hf_hub:c/d.e@v1"]


def test_the_words_of_evaluate_become_a_job(monkeypatch, capsys):
    asked = []

    def evaluation_of(runs, data, slice_, **fields):
        asked.append((runs, data, slice_, fields))
        raise UsageError("enough")

    monkeypatch.setattr(inference_verbs, "evaluation_of", evaluation_of)
    line = "evaluate runs/a,runs/b DATA --slice=val --ensemble --tta --processes=2"
    assert typed(capsys, *line.split())[0] == 2
    assert typed(capsys, "evaluate", "runs/a", "--tta=false")[0] == 2
    (runs, data, slice_, fields), (alone, own, _, plain) = asked
    assert (runs, data, slice_) == ([Path("runs/a"), Path("runs/b")], Path("DATA"), "val")
    assert (fields["ensemble"], fields["tta"], fields["processes"]) == (True, True, 2)
    assert (alone, own) == ([Path("runs/a")], None)
    assert (plain["ensemble"], plain["tta"], plain["processes"]) == (None, False, 1)
