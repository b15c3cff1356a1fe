"""Bands of images against those that a network has learnt."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from made_catalogues import N, header, pixels, write

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.shards import data_digest
from deeplense_batch.data.sources.sources import open_source
from deeplense_batch.inference.images.suitable import (
    Takes,
    about_other_bands,
    all_channels,
    check_bands,
    check_usual,
    with_refused,
)


@pytest.mark.parametrize(
    ("came", "learnt"),
    [
        (("g", "r"), ("g", "r")),
        (("G", "r"), ("g", "R")),
        (("HSC-G", "HSC-R2"), ("g", "r")),
        ((), ("g", "r")),
        (("g", "r"), ()),
    ],
)
def test_the_same_bands_and_unknown_ones_are_taken(came, learnt):
    check_bands("set", came, learnt, "run")


def test_other_bands_and_another_order_are_refused_with_both_lists():
    with pytest.raises(ShardError) as refused:
        check_bands("set", ("r", "g"), ("g", "r"), "runs/a")
    assert str(refused.value) == (
        "set: the channels are the bands r, g; runs/a has learnt g, r in this order and would "
        "take one band for another"
    )
    with pytest.raises(ShardError, match="bands g, z; runs/a has learnt g, r and would"):
        check_bands("set", ("g", "z"), ("g", "r"), "runs/a")
    with pytest.raises(ShardError, match="learnt g, r in this order"):
        check_bands("set", ("HSC-R", "HSC-G"), ("g", "r"), "runs/a")


def test_the_runs_own_images_under_other_names_say_how_to_train_anew(shards, tmp_path):
    own, other = (RunDir(tmp_path / name) for name in ("own", "other"))
    for run, digest in ((own, data_digest(shards)), (other, "0" * 16)):
        run.path.mkdir()
        run.write_json("metrics.json", {"schema": 1, "data": {"digest": digest}})
    hint = "; the set was packed again with other names: submit --force trains anew"
    for run, place, has_hint in ((own, shards, True), (other, shards, False), (own, "a", False)):
        with pytest.raises(ShardError) as refused:
            check_bands(place, ("r", "g"), ("g", "r"), run.path)
        assert str(refused.value).endswith(hint) == has_hint


def test_a_training_that_starts_from_other_bands_is_told(tmp_path):
    torch.save({"bands": ["g", "r"]}, tmp_path / "best.pt")
    for init in (tmp_path, tmp_path / "best.pt"):
        assert "has learnt the bands g, r; these images have i, z" in about_other_bands(
            init, ("i", "z")
        )
        assert not about_other_bands(init, ("g", "r"))
        assert not about_other_bands(init, ())
    assert not about_other_bands(tmp_path / "published.pth", ("i", "z"))
    torch.save({"model": {}, "args": argparse.Namespace(lr=1)}, tmp_path / "best.pt")
    assert not about_other_bands(tmp_path / "best.pt", ("i", "z"))  # of another program


def test_what_pack_refuses_is_taken_but_for_what_has_no_image(tmp_path, caplog):
    for i in range(5):
        for band in "gr":
            if (i, band) not in ((3, "r"), (4, "g"), (4, "r")):
                write(tmp_path / f"{i}_{band}.npy", pixels(i, ord(band)))
    labels = ("a", "d", "", "d", "b")
    rows = [f"{i},{i}_{{band}}.npy,{label}\n" for i, label in enumerate(labels)]
    (tmp_path / "t.csv").write_text("".join(["id,path,label\n", *rows]))
    own = {"bands": ("g", "r"), "classes": ("a", "b")}
    for missing_band, taken in (("refuse", ["1"]), ("drop", ["1"]), ("zero", ["1", "3"])):
        reading = Reading(**own, missing_band=missing_band)
        with open_source(tmp_path / "t.csv", reading=reading) as source:
            whole, lacking = with_refused(source)
        assert [sample.id for sample in whole.splits["refused"]] == taken
        assert "1 (1_g.npy): label 'd' is no class: a, b" in caplog.text
        why = {sample.id: reason for sample, reason in lacking.items()}
        no_class = "label 'd' is no class: a, b; band r is missing"
        assert why == {"3": no_class, "4": "there is no such file"} or missing_band == "zero"
        assert why["4"] == "there is no such file"


def takes(channels):
    """A network for images of one shape, which sees all channels."""
    shape = (channels, N, N)
    return Takes(shape, all_channels, shape.__eq__)


def test_columns_of_headers_are_those_of_any_image_that_is_looked_at(tmp_path):
    write(tmp_path / "a/0.fits", pixels(0))
    write(tmp_path / "a/1.fits", pixels(1), cards=header(1, 2))
    write(tmp_path / "a/2.fits", np.zeros((N, N)), cards=header(1, 2, name="broken"))
    with open_source(tmp_path / "a") as source:
        looked = check_usual(source, takes(1))
        assert looked.columns == {"ra", "dec"} and list(looked.shapes) == ["0.fits", "1.fits"]
        source.columns = {"ra": np.zeros(3)}
        assert check_usual(source, takes(1)).columns == {"dec"}
        with pytest.raises(ShardError, match=r"0.fits has images of 1 x 12 x 12 .*2 of 2 looked"):
            check_usual(source, takes(3))
