"""What a page says of adaptation: the verdicts, and how little is known where that is so."""

from __future__ import annotations

from deeplense_batch.report.studies.gains.adaptation_page import adaptation_blocks, summaries

GAIN = {
    "training": "a", "adapted": "b by coral", "test": "b", "own": False, "images": 300,
    "seeds": [0, 1], "control": 0.65, "score": 0.72, "gain": 0.07, "low": 0.03, "high": 0.11,
    "p_value": 0.004, "resolved": True, "visible": 0.05, "covers": "samples and seeds",
    "labelled": {"training": "b", "score": 0.8}, "doubt": None,
}  # fmt: skip
SMALL = GAIN | {"adapted": "b by mmd", "gain": 0.01, "low": -0.03, "high": 0.05, "p_value": 0.6,
                "resolved": False, "score": 0.66}  # fmt: skip
WORSE = GAIN | {"test": "a", "own": True, "control": 0.97, "score": 0.9, "gain": -0.07,
                "low": -0.1, "high": -0.04, "labelled": None}  # fmt: skip


def block_of(*gains, notes=()):
    study = {"model": "m", "task": "classification", "score": "auc", "gains": gains,
             "notes": [*notes]}  # fmt: skip
    (block,) = adaptation_blocks([study])
    return study, block


def test_gains_are_resolved_or_not():
    study, block = block_of(GAIN, SMALL, WORSE)
    text = " ".join(block.sentences)
    assert block.title == "Adapted to images without labels: m"
    assert "Better than the control: a adapted to b by coral, tested on b." in text
    assert "Worse than the control: a adapted to b by coral, tested on a." in text
    assert (
        "Not resolved, so that no gain of AUC is shown: a adapted to b by mmd, tested on b (a "
        "gain of 0.050 could be seen)."
    ) in text
    assert "cover other test images and other trainings (seeds)" in text
    assert block.headline.startswith("The greatest gain of AUC is +0.0700 [")
    assert summaries([study]) == [
        f"Adapted to images without labels: m: t{block.headline[1:].removesuffix('.')}"
    ]


def test_every_gain_is_a_line_with_what_labels_would_give():
    _, block = block_of(GAIN, WORSE)
    assert [len(line) for line in block.lines] == [len(block.head)] * 2
    first, second = block.lines
    assert first[:6] == ["a", "b by coral", "b", "2", "0.6500", "0.7200"]
    assert first[7:] == ["better, p 0.004", "0.8000"]
    assert second[2] == "a (own)" and second[7:] == ["worse, p 0.004", "-"]
    _, plain = block_of(WORSE)
    assert len(plain.head) == len(block.head) - 1


def test_one_seed_says_nothing_of_other_trainings():
    _, block = block_of(GAIN | {"seeds": [0], "covers": "samples"})
    assert "not other trainings, as there is one seed" in " ".join(block.sentences)


def test_of_gains_with_one_seed_and_with_several_both_are_said():
    _, block = block_of(GAIN, SMALL | {"seeds": [0], "covers": "samples"})
    assert "(seeds), and where there is one seed other test images alone;" in " ".join(
        block.sentences
    )


def test_scores_that_mislead_make_no_headline():
    _, block = block_of(GAIN | {"doubt": "seen in training"}, SMALL)
    text = " ".join(block.sentences)
    assert "+0.0100" in block.headline and "not resolved" in block.headline
    assert "Not to be trusted, and left out of what is said: a adapted to b by coral" in text
    assert block.lines[0][2] == "b (seen in training)" and "Better" not in text


def test_where_nothing_is_known_that_is_said():
    _, block = block_of(notes=["a has no control"])
    assert block.headline.startswith("No gain of AUC is known") and not block.lines
    assert "Note: a has no control." in block.sentences
    unknown = {"low": None, "high": None, "p_value": None, "resolved": None, "visible": None}
    _, block = block_of(GAIN | unknown | {"covers": None})
    assert "(no interval)" in block.headline and "No interval is known" in block.sentences[-1]
