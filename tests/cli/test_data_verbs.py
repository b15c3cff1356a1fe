"""The verbs that make data, as they are typed."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from conftest import typed
from hostile_sources import image, make_source

from deeplense_batch.data.packing import pack as packing
from deeplense_batch.data.shards import open_split
from deeplense_batch.simulation import simulate as simulation


def test_images_are_packed_and_unpacked_as_they_were(tmp_path, capsys):
    source, data, out = make_source(tmp_path / "source"), tmp_path / "data", tmp_path / "images"
    code, shown, error = typed(capsys, "pack", source, data, "--seed=3", "--compression=gzip")
    assert code == 0 and shown.startswith(f"{source} -> {data}: 4 images in "), error
    with h5py.File(data / "train-00000-of-00001.h5") as file:
        assert file["images"].compression == "gzip" and file.attrs["seed"] == 3
    assert typed(capsys, "unpack", data, out)[:2] == (0, f"{out}: 4 images\n")
    for number, name in enumerate(("a/0", "a/1", "b/0", "b/1")):
        found = np.load(next(out.glob(f"train/{name}*.npy")))
        assert (found.squeeze() == image(number)).all()


def test_no_compression_is_the_default_and_what_is_typed_is_handed_on(
    tmp_path, capsys, monkeypatch
):
    seen = []
    monkeypatch.setattr(packing, "pack", lambda *words, **flags: seen.append((words, flags)))
    typed(capsys, "pack", "a", "b")
    typed(capsys, "pack", "a", "b", "--compression=lzf", "--mask_value=-99", "--pixel_scale=0.05")
    (words, first), (_, second) = seen
    assert [str(word) for word in words] == ["a", "b"]
    assert first["compression"] is None and first["dtype"] == "exact" and not first["skip_bad"]
    changed = {name: value for name, value in second.items() if value != first[name]}
    assert changed == {"compression": "lzf", "mask_value": -99.0, "pixel_scale": 0.05}


def test_a_set_is_simulated_with_the_fields_that_are_typed(tmp_path, capsys):
    out = tmp_path / "set"
    words = ["simulate", "diffusion", out, "--images=4", "--size=32", "--set", "z_s=1.5"]
    code, shown, error = typed(capsys, *words, "--set", "lens.q=[0.8,0.9]", "--seed=2")
    assert code == 0 and shown.startswith("4 images of "), error
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["preset"]["z_s"] == {"law": "Fixed", "value": 1.5}
    assert manifest["preset"]["lens"]["q"] == {"law": "Uniform", "low": 0.8, "high": 0.9}
    assert manifest["seed"] == 2 and open_split(out, "train").info.shape == (1, 32, 32)


def test_options_that_are_not_typed_are_left_to_the_kind(tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(
        simulation, "simulate", lambda *words, **flags: seen.append(set(flags)) or ""
    )
    typed(capsys, "simulate", "lens_finding", tmp_path)
    typed(capsys, "simulate", "lens_finding", tmp_path, "--preset=null", "--device=cpu")
    every = {"images", "seed", "shard_size", "part", "parts", "on_batch"}
    assert seen == [every, every | {"preset", "device"}]
    code, _, error = typed(capsys, "simulate", "lens_finding", tmp_path, "--size=0")
    assert code == 2 and "--size: expected a whole number, 1 or more, got '0'" in error


@pytest.mark.parametrize(("words", "groups"), [([], 3), (["--slice=train[:2]"], 2)])
def test_the_truth_of_some_images_is_written(tmp_path, capsys, words, groups):
    typed(capsys, "simulate", "substructure", tmp_path / "set", "--images=6", "--size=32")
    code, shown, error = typed(capsys, "truth", tmp_path / "set", tmp_path / "t.h5", *words)
    assert (code, shown) == (0, f"{tmp_path / 't.h5'}: {groups} images\n"), error
    with h5py.File(tmp_path / "t.h5") as file:
        named = [id_ for id_ in open_split(tmp_path / "set", "train").ids() if id_ in file]
        assert len(named) == groups
        assert "image" in file[named[0]]


def test_the_numbers_of_the_truth_alone(tmp_path, capsys):
    typed(capsys, "simulate", "substructure", tmp_path, "--images=6", "--size=32")
    code, _, error = typed(capsys, "truth", tmp_path, tmp_path / "truth.h5", "--numbers")
    assert code == 0, error
    with h5py.File(tmp_path / "truth.h5") as file:
        (name, *_) = open_split(tmp_path, "train").ids()
        assert "delta_chi2" in file[name] and "image" not in file[name]
