"""Sets that are trained on together: made alike as the recipe says, or refused in one sentence."""

from __future__ import annotations

import math
import re
import shutil

import numpy as np
import pytest
from conftest import make_job
from made_groups import tiles, write_groups
from made_sets import write_set

from deeplense_batch.core.job import JobError
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import (
    about_pixel_scales,
    about_units,
    mixed_info,
    open_curriculum,
    open_training_sets,
)
from deeplense_batch.data.shards import ShardError, open_split


def opened(root, *sets, **data):
    """The slices and the sets of a job."""
    roots = [each if isinstance(each, dict) else {"root": str(each)} for each in sets]
    roots = [each | {"root": str(each["root"])} for each in roots]
    job = make_job(root, data={"roots": roots, "augment": {}} | data)
    slices = open_slices(job)
    return job, slices, open_training_sets(job, slices)


def refused(error, *arguments, **data):
    with pytest.raises(error) as told:
        opened(*arguments, **data)
    return str(told.value)


def test_sets_are_slices_beside_those_of_root(tmp_path):
    a, b = (write_set(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    _, slices, sets = opened(a, a, {"root": b, "train": "train[:50%]"})
    assert [*slices] == ["valid", "test"] and [len(split) for split in sets] == [24, 12]
    assert sets[1].ids() == open_split(b, "train[:12]").ids()
    assert open_training_sets(make_job(a), {}) == ()


def test_classes_are_matched_by_name_in_the_order_of_root(tmp_path):
    a = write_set(tmp_path / "a", classes=("lens", "nonlens"))
    b = write_set(tmp_path / "b", classes=("no", "ring", "arc"), seed=1)
    names = {"no": "nonlens", "ring": "lens", "arc": "lens"}
    _, slices, (first, second) = opened(a, a, b, classes=names)
    for split in (first, second, *slices.values()):
        assert split.info.classes == ("lens", "nonlens")
    assert first.targets().tolist() == [0, 1] * 12
    assert second.targets().tolist() == [1, 0, 0] * 8  # no, ring, arc
    assert second.info.class_counts == (16, 8)


def test_other_classes_are_refused_with_both_lists(tmp_path):
    a = write_set(tmp_path / "a", classes=("lens", "nonlens"))
    b = write_set(tmp_path / "b", classes=("no", "lens"), seed=1)
    c = write_set(tmp_path / "c", classes=("lens", "nonlens", "x"), seed=2)
    sentence = refused(ShardError, a, a, b)
    assert sentence == (
        f"{b}: has the classes no, lens; {a} has lens, nonlens; sets that are trained on "
        "together have the same, and data.classes gives some another name: {no: nonlens}"
    )
    assert f"{c}: has the classes lens, nonlens, x; " in refused(ShardError, a, a, c)
    sentence = refused(JobError, a, a, b, classes={"non": "nonlens"})
    assert sentence.endswith("data.classes: there is no class 'non'; did you mean 'no'?")


def test_a_name_of_no_class_is_refused_without_sets_too(tmp_path):
    a = write_set(tmp_path / "a")
    with pytest.raises(
        JobError, match=r"data.classes: there is no class 'x'; allowed: no, sphere"
    ):
        open_slices(make_job(a, data={"classes": {"x": "y"}}))


def test_channels_are_chosen_for_all_or_for_one(tmp_path):
    a = write_set(tmp_path / "a", shape=(3, 12, 12), bands=("g", "r", "i"))
    b = write_set(tmp_path / "b", shape=(2, 12, 12), bands=("HSC-R", "HSC-G"), seed=1)
    c = write_set(tmp_path / "c", seed=2)
    one = {"root": c, "channels": [0]}
    _, slices, sets = opened(a, a, b, one, channels=["r"])
    assert [split.info.bands for split in sets] == [("r",), ("HSC-R",), ()]
    assert slices["test"].info.bands == ("r",) and slices["test"].info.shape == (1, 12, 12)
    assert np.array_equal(sets[1].images(), open_split(b, "train").images()[:, :1])
    _, _, sets = opened(a, a, b, c, channels="mean")
    assert {split.info.shape for split in sets} == {(1, 12, 12)}


def test_other_channels_and_sizes_are_refused_with_what_makes_them_one(tmp_path):
    a = write_set(tmp_path / "a", shape=(3, 12, 12), bands=("g", "r", "i"))
    b = write_set(tmp_path / "b", shape=(1, 16, 16), seed=1)
    sentence = refused(ShardError, a, a, b)
    assert sentence == (
        "data.roots: the images differ in channels x height x width: "
        f"{a} 3 x 12 x 12, {b} 1 x 16 x 16; data.channels chooses the same number: [0], or mean; "
        "data.crop keeps 12 pixels or less, data.size resizes to one size"
    )
    assert "data.channels" not in refused(ShardError, a, a, b, channels=[0])
    assert "data.crop" not in refused(ShardError, a, a, b, crop=10)
    _, _, sets = opened(a, a, b, channels=[0], crop=10)
    assert len(sets) == 2
    assert f"{a}: data.crop asks for 14 pixels" in refused(ShardError, a, a, b, crop=14)
    sentence = refused(ShardError, a, a, {"root": b, "channels": [1]}, channels=["g"])
    assert sentence == (
        f"data.roots: channels of {b}: there is no channel 1; the images have 1, numbered from 0"
    )
    assert refused(ShardError, a, a, b, channels=["g"]) == (
        f"{b}: data.channels: there is no band 'g'; the images have 1 without names, by numbers "
        "from 0; its entry in data.roots may have channels of its own, such as channels: [0]"
    )


def test_other_filters_are_refused_unless_a_set_states_its_channels(tmp_path):
    a = write_set(tmp_path / "a", bands=("g",))
    b = write_set(tmp_path / "b", bands=("VIS",), seed=1)
    sentence = refused(ShardError, a, a, b)
    assert sentence.startswith(f"{b}: the channels are the bands VIS, those of {a} g; choose with")
    assert "of its own" in refused(ShardError, a, a, b, channels=[0])
    assert len(opened(a, a, {"root": b, "channels": ["VIS"]})[2]) == 2


def test_sets_share_no_image_with_each_other_nor_with_what_is_scored(tmp_path):
    a = write_set(tmp_path / "a")
    b = shutil.copytree(a, tmp_path / "b")  # the same data in another folder
    for sets, names in (
        ([a, a], ("data.roots 'a' train", "data.roots 'a' train")),
        ([a, b], ("data.roots 'a' train", "data.roots 'b' train")),
        ([{"root": b, "train": "val[:5]"}], ("data.roots 'b' val[:5]", "data.valid 'val[:50%]'")),
        ([a, {"root": b, "train": "val[15:]"}], ("'b' val[15:]", "data.test 'val[50%:]'")),
    ):
        sentence = refused(JobError, a, *sets)
        assert f"{names[0]} and " in sentence and names[1] in sentence
        assert "share samples; no image may be in two of them" in sentence
    halves = [{"root": a, "train": "train[:50%]"}, {"root": b, "train": "train[50%:]"}]
    assert [len(split) for split in opened(a, *halves)[2]] == [12, 12]


def test_sets_share_no_group(tmp_path):
    write_groups(tmp_path / "a", tiles())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    sets = {"root": tmp_path / "b", "train": "train[:6]"}
    sentence = refused(JobError, tmp_path / "a", sets, valid="train[6:12]", test="train[60%:]")
    assert "share group 't2' (column tile)" in sentence


def test_a_weight_of_which_nothing_comes_is_refused(tmp_path):
    a, b = (write_set(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    sets = [{"root": a, "weight": 1.0}, {"root": b, "weight": 0.001}]
    assert refused(ShardError, a, *sets) == (
        f"{b}: its weight 0.001 is none of the 48 images that an epoch draws of data.roots; "
        "expected more, or the set left out"
    )


def test_pixel_scales_that_differ_are_named_and_make_one_that_is_unknown(tmp_path):
    a = write_set(tmp_path / "a", pixel_scale=0.1)
    b = write_set(tmp_path / "b", shape=(1, 24, 24), seed=1, pixel_scale=0.05)
    job, slices, sets = opened(a, a, b, crop=12)
    assert about_pixel_scales(job.data, sets, [slices["test"]]) == (
        "data.roots: a network sees pixels of 0.1 arcsec in a, 0.05 arcsec in b, so that one lens "
        "has several sizes; its pixel scale is taken as unknown"
    )
    info = mixed_info(job.data, sets, slices.values())
    assert math.isnan(info.pixel_scale) and info.name == "a + b" and info.shape == (1, 12, 12)


def test_a_pixel_scale_that_is_unknown_may_be_that_of_the_others(tmp_path):
    a = write_set(tmp_path / "a", pixel_scale=0.1)
    b = write_set(tmp_path / "b", seed=1, pixel_scale=math.nan)
    c = write_set(tmp_path / "c", seed=2, pixel_scale=0.2)
    job, slices, sets = opened(a, a, b)
    assert about_pixel_scales(job.data, sets, [slices["test"]]) == (
        "data.roots: a network sees pixels of 0.1 arcsec in a, unknown width in b, so that one "
        "lens may have several sizes; its pixel scale is taken as unknown"
    )
    job, slices, sets = opened(a, a, b, c)
    said = about_pixel_scales(job.data, sets, [slices["test"]])
    assert said is not None and "0.2 arcsec in c, so that one lens has several sizes" in said


def test_pixel_scales_within_a_hundredth_are_that_of_root(tmp_path):
    a = write_set(tmp_path / "a", pixel_scale=0.336)
    b = write_set(tmp_path / "b", seed=1, pixel_scale=0.3375)
    job, slices, sets = opened(a, b, a)
    assert about_pixel_scales(job.data, sets, [slices["test"]]) is None
    assert mixed_info(job.data, sets, slices.values()).pixel_scale == 0.336


def test_pixels_that_are_as_wide_once_resized_are_of_one_scale(tmp_path):
    a = write_set(tmp_path / "a", pixel_scale=0.1)
    b = write_set(tmp_path / "b", shape=(1, 24, 24), seed=1, pixel_scale=0.05)
    job, slices, sets = opened(a, a, b, size=12)
    assert about_pixel_scales(job.data, sets, [slices["test"]]) is None
    assert mixed_info(job.data, sets, slices.values()).pixel_scale == 0.1


def test_sets_that_seem_to_be_in_several_units_are_named_by_their_heads(tmp_path):
    a = write_set(tmp_path / "a", shape=(2, 12, 12))
    near = write_set(tmp_path / "near", shape=(2, 12, 12), seed=1, level=50)
    far = write_set(tmp_path / "far", shape=(2, 12, 12), seed=2, level=500)

    def said(root, *sets, **data):
        job, slices, opened_sets = opened(root, *sets, **data)
        return about_units(job.data, opened_sets, [slices["test"]])

    assert said(a, a, near) is None
    sizes = rf"size 500 in {far} and (1|0\.9\d+|1\.0\d) in {a} \(root mean square\)"
    sentence = f"^data.roots: the values are of {sizes}: are they in the same unit"
    for data in (
        {},
        {"stretch": "asinh", "softening": 3},
        {"channels": [1]},
        {"channels": "mean"},
    ):
        assert re.match(sentence, said(a, a, far, **data))
    assert re.match(sentence, said(far, a))  # of what is scored too
    assert said(a, a, far, per="image") is None


class TestCurriculum:
    """Sets that are trained on before all others."""

    def opened(self, root, *sets, epochs=4, **data):
        curriculum = [{"epochs": 1} | each | {"root": str(each["root"])} for each in sets]
        job = make_job(root, train={"epochs": epochs}, data={"curriculum": curriculum} | data)
        return open_curriculum(job, open_slices(job))

    def refused(self, error, *arguments, **more):
        with pytest.raises(error) as told:
            self.opened(*arguments, **more)
        return str(told.value)

    def test_they_are_slices_with_the_classes_of_root(self, tmp_path):
        a = write_set(tmp_path / "a")
        b = write_set(tmp_path / "b", classes=("vort", "no", "sphere"), seed=1)
        first, second = self.opened(a, {"root": b, "train": "train[:50%]"}, {"root": a})
        assert (len(first), len(second)) == (12, 24)  # of `root` too: training images of its own
        assert first.info.classes == ("no", "sphere", "vort")
        assert first.targets().tolist() == [2, 0, 1] * 4
        assert self.opened(a) == ()

    def test_an_epoch_is_left_for_root(self, tmp_path):
        a = write_set(tmp_path / "a")
        assert self.refused(JobError, a, {"root": a, "epochs": 2}, {"root": a, "epochs": 2}) == (
            "small: data.curriculum: its sets take 4 of 4 epochs (train.epochs); expected 5 or "
            f"more, so that some are left for {a}"
        )

    def test_what_differs_or_is_scored_is_refused(self, tmp_path):
        a = write_set(tmp_path / "a")
        wide = write_set(tmp_path / "wide", shape=(1, 14, 12), seed=1)
        other = write_set(tmp_path / "other", classes=("no", "ring"), seed=2)
        assert self.refused(ShardError, a, {"root": wide}).startswith(
            "data.curriculum: the images differ in channels x height x width: "
        )
        assert f"{other}: has the classes no, ring" in self.refused(ShardError, a, {"root": other})
        scored = self.refused(JobError, a, {"root": a, "train": "val[:4]"})
        assert scored.startswith("small: data.curriculum 'a' val[:4] and data.valid 'val[:50%]'")
        assert len(self.opened(a, {"root": wide}, crop=10)) == 1
