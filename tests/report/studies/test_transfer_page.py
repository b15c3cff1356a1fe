"""What a page says of training sets against test sets."""

from __future__ import annotations

import json
import shutil

import pytest
from made_transfer import Networks, three_by_three

from deeplense_batch.report.pages import markdown
from deeplense_batch.report.plots.pictures import redraw, write
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.report.studies import transfer_page
from deeplense_batch.report.studies.transfer import matrices

PAGE = {"counts": "18 runs: 18 done", "missing": "", "comparisons": [], "rows": []}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    three_by_three(root)
    (matrix,) = matrices(read_rows(root))
    return json.loads(json.dumps(matrix))  # as `results.json` gives it back


def said(matrix):
    return " ".join(s for block in transfer_page.blocks([matrix]) for s in block.sentences)


def test_the_first_block_is_the_matrix(matrix):
    block, numbers = transfer_page.blocks([matrix])
    assert block.title == "Trained here, tested there: resnet18"
    assert block.head == ["trained on", "tested on a", "tested on b", "tested on real"]
    assert [line[0] for line in block.lines] == ["a", "b", "a + b"]
    assert block.lines[0][1].endswith("] (own)") and block.lines[2][1].endswith("] (own)")
    assert not block.lines[2][2].endswith("(own)")
    assert numbers.title == "resnet18: every training set on every test set"
    assert len(numbers.lines) == 9 and all(len(x) == len(numbers.head) for x in numbers.lines)
    text = " ".join(block.sentences)
    assert "means over 2 seeds" in text and "other test images and other seeds" in text
    assert "that of a mixture is the one of the set that it was validated on" in text
    assert "real has 30 images: the interval says how little that is." in text
    assert "a, slice val[50%:] of" in text and "600 images (200 no, 200 sphere, 200 vort)" in text
    assert "have no section of their own" in text
    assert "may have another interval there: the spread over the seeds is pooled" in text
    assert block.headline.startswith("The greatest loss of AUC is ") and not numbers.headline
    (picture,) = block.pictures
    assert picture.name == "transfer"


def test_the_figure_is_drawn_again_from_its_numbers(matrix, tmp_path):
    (picture,) = transfer_page.blocks([matrix])[0].pictures
    _, png, svg = write(tmp_path, [picture])
    before = png.read_bytes(), svg.read_bytes()
    png.unlink()
    redraw(tmp_path)
    assert (png.read_bytes(), svg.read_bytes()) == before


def test_the_greatest_and_the_least_loss_are_named(matrix):
    losses = [cell for cell in matrix["cells"] if cell["loss"] is not None]
    worst = max(losses, key=lambda cell: cell["loss"])
    least = min(losses, key=lambda cell: cell["loss"])
    (line,) = transfer_page.summaries([matrix])
    assert f"the greatest loss of AUC is {worst['loss']:.4f} [" in line
    assert f"trained on {worst['training']}, from" in line and f"to {worst['test']}" in line
    assert f"the least is {least['loss']:.4f} [" in line
    assert line.startswith("Trained here, tested there: resnet18: ")


def test_losses_are_resolved_or_not_or_no_losses(matrix):
    cells = [cell | {"loss_resolved": False} if cell["loss"] else cell for cell in matrix["cells"]]
    changed = matrix | {"cells": cells}
    assert "Losses that are resolved" not in said(changed)
    assert "Not resolved: a on b; a on real; b on a;" in said(changed)
    cells[1] = cells[1] | {"loss": -0.01}
    assert "a higher score than on the own test set: a on b, not resolved, p" in said(changed)


def test_what_is_missing_is_said(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 120})
    for seed in (0, 1):
        run = networks.train("a", seed, 2.0)
        if seed == 0:
            networks.evaluate(run, "b", 1.0)
    networks.evaluate(run, "a", 2.0)
    networks.train("b", 0, 2.0)
    (matrix,) = matrices(read_rows(tmp_path))
    text = said(matrix)
    assert "Empty, since no run of it is done: b on a." in text
    assert "Not all runs are there: a on b, 1 of 2 runs." in text
    assert "means over 1 to 2 seeds" in text
    assert "1 run scores a network once more on the same images, which counts once; see" in text
    block = transfer_page.blocks([matrix])[0]
    assert block.lines[1][1] == "-"
    notes = [cell["note"] for cell in block.pictures[0].arguments["cells"]]
    assert "1 of 2 runs" in notes


def test_shares_at_the_carried_threshold_and_notes_have_their_place(tmp_path):
    networks = Networks(tmp_path, {"a": 120, "b": 120})
    run = networks.evaluate(networks.train("a", 0, 2.0), "b", 1.0)
    metrics = run.read_json("metrics.json")
    metrics["test"]["scores"] |= {"completeness": 0.5, "completeness_low": 0.4,
                                  "completeness_high": 0.6, "purity": 0.31}  # fmt: skip
    metrics["test"]["notes"] = ["the network was trained on 3 of these 120 images"]
    run.write_json("metrics.json", metrics)
    (matrix,) = matrices(read_rows(tmp_path))
    _, numbers, notes = transfer_page.blocks([matrix])
    column = numbers.head.index("completeness at threshold")
    assert [line[column] for line in numbers.lines] == ["-", "0.5000 [0.400, 0.600]"]
    assert numbers.lines[1][column + 1] == "0.3100"
    assert any("carried over" in sentence for sentence in numbers.sentences)
    assert notes.lines == [["the network was trained on 3 of these 120 images", "a on b"]]


def test_several_models_have_figures_of_their_own(matrix):
    blocks = transfer_page.blocks([matrix, matrix | {"model": "resnet34"}])
    assert [p.name for block in blocks for p in block.pictures] == ["transfer-1", "transfer-2"]
    page = markdown.page(PAGE | {"blocks": [block.content() for block in blocks]})
    assert "## Trained here, tested there: resnet34" in page and "(transfer-2.png)" in page


def test_a_matrix_in_which_nothing_is_lost_speaks_of_no_loss(tmp_path):
    """Evaluations on one set, such as those of ensembles: two training sets on that of one."""
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    for data in ("a", "b"):
        run = networks.train(data, 0, 2.0)
        networks.evaluate(run, "a", 1.5)
        shutil.rmtree(run.path)
    (matrix,) = matrices(read_rows(tmp_path))
    assert [(c["training"], c["test"]) for c in matrix["cells"]] == [("a", "a"), ("b", "a")]
    block, numbers = transfer_page.blocks([matrix])
    assert (
        "No loss of AUC is known, since it takes a network that was tested on its own test set "
        "and on another."
    ) in block.sentences
    assert numbers.head[-2:] == ["difference in AUC", "verdict"]
    assert all(len(line) == len(numbers.head) for line in numbers.lines)
    text = " ".join(numbers.sentences)
    assert "A loss is" not in text and "predictions of single images are not there" not in text
    assert "Every cell has one run: intervals cover other test images" in text


def noted(run, note):
    metrics = run.read_json("metrics.json")
    metrics["test"]["notes"] = [note]
    run.write_json("metrics.json", metrics)


SEEN = "the network was trained on 9 of these 60 images (slice train, its training data), which"
UNIT = "unit: stretched (linear) and normalised like the training images, these have mean 5e+03"


def test_scores_that_mislead_are_marked_and_make_no_headline(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60, "c": 60, "d": 60})
    run = networks.train("a", 0, 2.0)
    networks.evaluate(run, "b", 1.4)
    noted(networks.evaluate(run, "c", 0.1), UNIT)
    noted(networks.evaluate(run, "d", 9.0), SEEN)
    (matrix,) = matrices(read_rows(tmp_path))
    assert [cell["doubt"] for cell in matrix["cells"]] == [
        None, None, "another unit", "seen in training"
    ]  # fmt: skip
    block, numbers, _ = transfer_page.blocks([matrix])
    assert block.lines[0][3].endswith("] (another unit)")
    assert block.lines[0][4].endswith(" (seen in training)")
    assert [line[1] for line in numbers.lines] == [
        "a (own)", "b", "c (another unit)", "d (seen in training)"
    ]  # fmt: skip
    (line,) = transfer_page.summaries([matrix])
    assert "from a to b" in line and "from a to c" not in line and "the least" not in line
    text = " ".join(block.sentences)
    assert (
        "left out of the losses named here: a on c (another unit); a on d (seen in training)."
        in text
    )
    assert "No loss, a higher score" not in text
    cells = block.pictures[0].arguments["cells"]
    assert [cell["note"] for cell in cells] == [None, None, "another unit", "seen in training"]


def test_no_loss_is_named_of_an_own_test_set_that_was_seen(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    run = networks.train("a", 0, 2.0)
    networks.evaluate(run, "b", 1.4)
    noted(run, SEEN)
    (matrix,) = matrices(read_rows(tmp_path))
    (line,) = transfer_page.summaries([matrix])
    assert line.endswith("no loss of AUC is known of images never seen, in the unit learnt")
