"""The report of a packing: its lines, its warnings, and the manifest beside the shards."""

from __future__ import annotations

import json

import pytest

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.packing.doubts import Doubt
from deeplense_batch.data.packing.manifest import (
    Duplicate,
    PackReport,
    Skipped,
    SplitReport,
    about_changes,
    about_doubts,
    about_ignored,
    kinds,
    warnings,
)

SPLIT = SplitReport(
    name="train", samples=3, class_counts={"no": 2, "vort": 1}, shape=(1, 8, 9), dtype="float64",
    stored="uint16", least=0.0, most=1.0, error=0.0, bytes=1_500_000,
    shards={"train-00000-of-00001.h5": "0" * 64},
)  # fmt: skip


def report(**fields):
    known = {
        "source": "in", "out": "out", "layout": "{class}/", "classes": ("no", "vort"), "seed": 0,
        "options": {}, "bands": (), "digest": "ab12", "splits": (SPLIT,), "duplicates": (),
        "skipped": (), "ignored": (), "warnings": (), "notes": (), "seconds": 1.5,
    }  # fmt: skip
    return PackReport(**known | fields)


def test_a_split_is_one_line():
    assert str(SPLIT) == (
        "train: 3 images (no 2, vort 1), 1 x 8 x 9 float64 in [0, 1], stored as uint16 counts "
        "(exact), 1.50 MB in 1 shard"
    )


def test_a_report_has_only_the_lines_that_say_something():
    assert str(report()).splitlines() == [
        "in -> out: 3 images in 1.5 s (2 images/s), digest ab12",
        "layout {class}/; classes no = 0, vort = 1",
        str(SPLIT),
    ]
    skipped = tuple(Skipped(f"{i}.npy", "empty file") for i in range(25))
    text = str(report(classes=(), notes=("n",), warnings=("w",), skipped=skipped, ignored=("a",)))
    lines = text.splitlines()
    assert lines[1] == "layout {class}/; classes none"
    assert lines[3:6] == ["note: n", "WARNING: w", "25 files skipped (25 x empty file):"]
    assert lines[6:26] == [f"  {i}.npy: empty file" for i in range(20)]
    assert lines[26:] == ["  and 5 more, in manifest.json", "1 file ignored, no image: a"]


def test_the_manifest_holds_all_and_appears_at_once(tmp_path):
    report(skipped=(Skipped("ü.npy", "empty file"),)).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    content = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert (content["format"], content["digest"]) == (2, "ab12")
    assert content["skipped"] == [{"id": "ü.npy", "reason": "empty file", "file": ""}]
    assert content["splits"][0]["class_counts"] == {"no": 2, "vort": 1}


def test_reasons_are_counted_by_kind_without_their_numbers():
    reasons = ["3 of 48 pixels are NaN", "9 of 48 pixels are NaN", "constant image, all are 2"]
    reasons += ["values from 0 to 9 do not fit float16", "shape (1, 2), most images have (3, 4)"]
    assert kinds(reasons) == (
        "2 x pixels are NaN, 1 x constant image, 1 x values do not fit float16, 1 x shape (1, 2)"
    )
    assert kinds([]) == ""


@pytest.mark.parametrize(
    ("reasons", "summary"),
    [
        (["1 channel, and 3 bands: g, r, i"] * 2, "2 x 1 channel, and 3 bands"),
        (
            ["is band g by its name, but r by its header"] * 6,
            "6 x is band g by its name, but r by its header",
        ),
        ([f"rows 1 and {i} have one id" for i in range(2, 31)], "29 x rows N and N have one id"),
        (["rows 1 and 2 have one id"], "1 x rows 1 and 2 have one id"),
        (
            [f"label '{i}.5' is no class: a, b" for i in range(3)] + ["band g, r is missing"],
            "3 x label '...' is no class, 1 x band g, r is missing",
        ),
        (
            [f"pixel scale 0.{i} arcsec, most images have 0.05" for i in (1, 2)],
            "2 x pixel scale N arcsec",
        ),
        (["shape (1, 2)", "shape (1, 3)"], "1 x shape (1, 2), 1 x shape (1, 3)"),
    ],
)
def test_reasons_are_counted_whole_and_together(reasons, summary):
    assert kinds(reasons) == summary


def test_what_was_filled_is_counted():
    reading = Reading(mask_value=300)
    assert about_changes(reading, {}, {}) == ["no pixel had the mask value 300"]
    assert about_changes(reading, {"mask_value": 1}, {"mask_value": 1}) == [
        "1 pixel had the mask value 300, in 1 of the images: it is the median of the rest of its "
        "channel"
    ]
    assert about_changes(reading, {"mask_value": 2, "lossy": 1}, {"mask_value": 9}) == [
        "9 pixels had the mask value 300, in 2 of the images: they are the median of the rest of "
        "their channel",
        "1 image in JPEG, which is lossy: faint light may be lost",
    ]


@pytest.mark.parametrize(
    ("leak", "contradictory", "text"),
    [
        (False, False, "a = b"),
        (True, False, "LEAK ACROSS SPLITS: a = b"),
        (True, True, "CONTRADICTORY LABELS: LEAK ACROSS SPLITS: a = b"),
    ],
)
def test_equal_images_are_marked_where_they_spoil_scores(leak, contradictory, text):
    assert str(Duplicate(("a", "b"), leak, contradictory)) == text


def test_what_makes_scores_wrong_is_a_warning():
    assert warnings([SPLIT], [Duplicate(("a", "b"), False, False)]) == []
    val = SplitReport(**vars(SPLIT) | {"name": "val", "class_counts": {"no": 2, "vort": 0}})
    same = [Duplicate(("a", "b"), True, True), Duplicate(("c", "d"), True, False)]
    assert warnings([SPLIT, val], same) == [
        "split val has no sample of class vort: its scores will be undefined",
        "1 image with contradictory labels: one of them is wrong",
        "2 images in more than one split: scores will be too good",
    ]


def test_doubts_are_one_line_of_a_kind_with_the_first_image_by_its_number():
    doubts = [(f"{i}.npy", Doubt("edge", 0.0, "96 pixels at an edge are all 0")) for i in (10, 9)]
    doubts.append(("1.npy", Doubt("constant", 7.0, "channel 1 is constant, all 7")))
    assert about_doubts(doubts) == [
        "2 images have one value along an edge, such as 9.npy: 96 pixels at an edge are all 0; if "
        "it is no light, --mask_value 0 fills such pixels",
        "1 image has a constant channel, which no network learns from, such as 1.npy: channel 1 "
        "is constant, all 7",
    ]


def test_ignored_files_are_named_up_to_the_third():
    assert about_ignored(["a"]) == "1 file ignored, no image: a"
    assert about_ignored(list("abcd")) == "4 files ignored, no image: a, b, c, ..."
