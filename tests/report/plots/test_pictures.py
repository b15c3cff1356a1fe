"""Figures as data: saved numbers redraw them, and damaged ones are told."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import typed
from made_runs import make_run
from report_content import comparison_and_runs, searched

from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.report.collect import collect
from deeplense_batch.report.pages.compose import compose
from deeplense_batch.report.plots.pictures import redraw, write
from deeplense_batch.report.run_table import CollectError


def test_saved_numbers_draw_the_same_files_again(tmp_path):
    written = write(tmp_path, compose(*comparison_and_runs(3), searched(3)[0]))
    assert written[0].name == "figures.json"
    assert {path.suffix for path in written[1:]} == {".png", ".svg"} and len(written) == 19
    before = {path: path.read_bytes() for path in written[1:]}
    for path in before:
        path.unlink()
    assert redraw(str(tmp_path)) == written[1:]
    assert {path: path.read_bytes() for path in before} == before
    (first, *_) = redraw(tmp_path, ["pdf"])
    assert first.read_bytes().startswith(b"%PDF")


def test_figures_that_are_no_more_go_and_those_of_others_stay(tmp_path):
    pictures = compose(*comparison_and_runs(3))
    write(tmp_path, pictures)
    redraw(tmp_path, ["pdf"])
    (tmp_path / "mine.png").touch()
    write(tmp_path, pictures[:1])
    assert {path.name for path in tmp_path.iterdir()} == {
        "figures.json", "auc.png", "auc.svg", "mine.png"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"figures.json: cannot be read \(No such file or directory\)"),
        ("{", r"figures.json: is damaged or cut short \(Expecting property name .*\)"),
        ("[]", "figures.json: expected a JSON object, got .*"),
        ('{"schema": 9}', r"\(ValueError: schema 9, expected 1\)"),
        ('{"schema": 1, "figures": [{"name": "auc"}]}', r"\(TypeError: .*\)"),
        ({"name": "../auc"}, "no such figure: '../auc' by 'time_bars'"),
        ({"function": "remove"}, "no such figure: 'auc' by 'remove'"),
        ({"arguments": {"devices": 3}}, r"numbers of figure 'auc' cannot be drawn \(TypeError"),
        ({"arguments": {"devices": [{}]}}, r"numbers of figure 'auc' cannot be drawn \(KeyError"),
    ],
)
def test_damaged_or_foreign_numbers_are_one_sentence(tmp_path, content, reason):
    if isinstance(content, dict):
        figure = {"name": "auc", "function": "time_bars", "arguments": {}, "caption": ""}
        content = json.dumps({"schema": 1, "figures": [figure | content]})
    if content is not None:
        (tmp_path / "figures.json").write_text(content)
    with pytest.raises(CollectError, match=reason) as error:
        redraw(tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.png"))
    with pytest.raises(CollectError, match=r"jpg: no format of figures; png, svg, pdf are"):
        redraw(tmp_path, ["jpg"])


def test_a_collected_comparison_has_its_differences_and_hardest_images(shards, tmp_path):
    split = open_split(shards, "val[50%:]")
    ids, targets = np.array(split.ids()), split.targets()
    digest, place = data_digest(shards), str(shards)
    for k, name in enumerate(("one", "other")):
        run = make_run(tmp_path / "runs", name, digest=digest, place=place, valid=0.9 - k / 100)
        logits = 2 * np.eye(3)[targets] + np.random.default_rng(k).normal(size=(len(ids), 3))
        np.savez(run.path / "outputs.npz", classes=["no", "sphere", "vort"], ids=ids,
                 targets=targets, logits=logits)  # fmt: skip
    out = tmp_path / "report"
    collect(tmp_path / "runs", out)
    names = {path.stem for path in out.glob("*.svg")}
    assert {"differences", "hardest", "auc_cost"} < names
    (comparison,) = json.loads((out / "results.json").read_text())["comparisons"]
    assert {figure["name"] for figure in comparison["figures"]} == names
    assert "![The " in (out / "report.md").read_text()
    for run in (tmp_path / "runs" / "demo").iterdir():
        job = run / "job.yaml"
        job.write_text(job.read_text().replace(place, "/nowhere"))
    collect(tmp_path / "runs", out)
    assert not (out / "hardest.png").exists()
    assert "the hardest images are not shown: /nowhere" in (out / "report.md").read_text()


def test_figures_are_redrawn_from_the_command_line(tmp_path, capsys):
    make_run(tmp_path / "runs")
    collect(tmp_path / "runs", tmp_path / "report")
    code, out, _ = typed(capsys, "redraw", tmp_path / "report", "--format", "pdf,svg")
    assert code == 0 and (tmp_path / "report" / "auc.pdf").read_bytes().startswith(b"%PDF")
    assert str(tmp_path / "report" / "auc.pdf") in out.splitlines()
    code, _, err = typed(capsys, "redraw", tmp_path / "report", "--format=gif")
    assert code == 3 and "gif: no format of figures" in err
    code, _, err = typed(capsys, "redraw", tmp_path / "absent")
    assert code == 3 and "figures.json" in err
