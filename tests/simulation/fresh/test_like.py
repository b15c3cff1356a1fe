"""New images are like those of a set, or of a preset that goes with it."""

from __future__ import annotations

import pytest
from made_sets import write_set

from deeplense_batch.core.sections.simulated import SimulatedImages
from deeplense_batch.data.shards import ShardError, read_splits
from deeplense_batch.simulation.fresh.like import digest_of, generator_of, settled
from deeplense_batch.simulation.simulate import simulate

ASKED = SimulatedImages(images=9)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Simulated sets by their kind, of small images."""
    root, small = tmp_path_factory.mktemp("sets"), {"images": 6, "size": 32}
    changes = {"sphere.count": 7}
    simulate("substructure", root / "substructure", preset="varied", set_=changes, **small)
    simulate("substructure", root / "clean", preset="common_test_1", keep="clean", **small)
    simulate("super_resolution", root / "pairs", preset="iii_a", **small)
    simulate("diffusion", root / "diffusion", **small)
    return root


def test_what_is_left_out_is_that_of_the_set(sets):
    asked = ASKED.model_copy(update={"set": {"vort.count": 2}})
    found = settled(asked, str(sets / "substructure"))
    assert (found.kind, found.preset) == ("substructure", "varied")
    assert found.set == {"sphere.count": 7, "vort.count": 2}
    assert settled(ASKED, str(sets / "pairs")).preset == "iii_a"
    assert settled(ASKED, str(sets / "diffusion")).kind == "diffusion"


def test_a_preset_is_taken_as_it_is(sets):
    asked = SimulatedImages(images=9, preset="euclid")
    found = settled(asked, str(sets / "substructure"))
    assert (found.kind, found.preset, found.set) == ("substructure", "euclid", {})


@pytest.mark.parametrize("name", ["substructure", "clean", "pairs", "diffusion"])
def test_images_are_stored_as_those_of_the_set(sets, name):
    info = next(iter(read_splits(sets / name).values()))
    made_by = generator_of(settled(ASKED, str(sets / name)), info)
    assert (made_by.shape, made_by.stored, made_by.sky) == (info.shape, info.stored, info.sky)
    assert made_by.classes == info.classes


def test_the_digest_names_every_setting(sets):
    def digest(name: str, **update) -> str:
        info = next(iter(read_splits(sets / name).values()))
        asked = settled(ASKED.model_copy(update=update), str(sets / name))
        return digest_of(asked, generator_of(asked, info))

    others = [digest("clean"), digest("pairs"), digest("diffusion")]
    others += [digest("substructure", set={"sphere.count": 8})]
    assert len({digest("substructure"), *others}) == 5
    assert digest("substructure") == digest("substructure", set={"sphere.count": 7})
    assert digest("substructure") == digest("substructure", images=100)


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("substructure", {"kind": "lens_finding", "preset": "hsc"}, "got 'lens_finding'"),
        ("substructure", {"kind": "diffusion"}, "which are of kind substructure; give data"),
        ("substructure", {"preset": "varid"}, "data.simulate: preset: got 'varid'"),
        ("substructure", {"set": {"sphere.cuont": 3}}, "sphere.cuont"),
        ("substructure", {"kind": "diffusion", "preset": "varied"}, "have the classes none"),
        ("substructure", {"kind": "super_resolution", "preset": "varied"}, "inputs inputs, those"),
        ("pairs", {"preset": "varied"}, "have the classes no, sphere, vort"),
        ("clean", {"preset": "common_test_1", "kind": "super_resolution"}, "keep"),
    ],
)
def test_what_cannot_be_made_is_named(sets, name, asked, says):
    info = next(iter(read_splits(sets / name).values()))
    with pytest.raises(ShardError, match=says):
        generator_of(settled(SimulatedImages(images=9, **asked), str(sets / name)), info)


def test_a_set_that_was_not_simulated_says_nothing_of_new_images(tmp_path):
    root = write_set(tmp_path / "real", shape=(1, 32, 32))
    with pytest.raises(ShardError, match=r"was not simulated here, .* give data\.simulate\.pres"):
        settled(ASKED, str(root))
    asked = settled(SimulatedImages(images=9, preset="varied"), str(root))
    info = read_splits(root)["train"]
    assert generator_of(asked, info).shape == (1, 32, 32)


def test_pixels_of_another_width_are_refused(tmp_path):
    root = write_set(tmp_path / "real", shape=(1, 32, 32), pixel_scale=0.168)
    info = read_splits(root)["train"]
    asked = SimulatedImages(images=9, preset="varied")
    with pytest.raises(
        ShardError, match=r"0\.05 arcsec wide, .*real 0\.168; .*pixel_scale: 0\.168"
    ):
        generator_of(settled(asked, str(root)), info)
    wide = asked.model_copy(update={"set": {"pixel_scale": 0.168}})
    assert generator_of(settled(wide, str(root)), info).pixel_scale == 0.168


def test_images_of_several_bands_are_refused(tmp_path):
    root = write_set(tmp_path / "bands", shape=(3, 32, 32))
    asked = settled(SimulatedImages(images=9, preset="varied"), str(root))
    with pytest.raises(ShardError, match=r"square images of one band; those of .* 3 x 32 x 32"):
        generator_of(asked, read_splits(root)["train"])
