"""Pairs in two folders are joined by their names, exactly; what has no partner is named."""

import shutil

import numpy as np
import pytest
from made_pair_files import arrays, write_files

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.packing.unpack import unpack
from deeplense_batch.data.shards import ShardError, data_digest, open_split, read_splits

NAMES = [f"sample{i}" for i in (1, 2, 10, 11, 20, 21)]


def packed(root, out, **options):
    """Images and inputs by id, over all splits, and the report."""
    report = pack(root, out, **options)
    found = {}
    for name in read_splits(out):
        split = open_split(out, name)
        both = zip(split.images(), split.of("inputs").images(), strict=True)
        found |= dict(zip(split.ids(), both, strict=True))
    return found, report


def check(found, names, images, inputs):
    assert set(found) == set(names)
    for name, image, own in zip(names, images, inputs, strict=True):
        assert (found[name][0] == image).all() and (found[name][1] == own).all(), name
        assert found[name][1].dtype == own.dtype


def test_pairs_come_out_of_shards_bit_for_bit(tmp_path):
    images, inputs = arrays()
    write_files(tmp_path / "a", NAMES, images, inputs)
    found, report = packed(tmp_path / "a", tmp_path / "out", pixel_scale=0.1)
    check(found, [f"{name}.npy" for name in NAMES], images, inputs)
    info = read_splits(tmp_path / "out")["train"]
    assert (len(info), info.ratio, info.inputs_pixel_scale) == (5, 2, 0.2)  # a fifth is val
    assert (info.stored, info.inputs.stored) == (np.uint16, np.float64)
    assert "inputs 1 x 8 x 8 float64, stored as float64" in str(report)


@pytest.mark.parametrize("archive", [None, "zip", "tar"])
def test_splits_and_classes_are_folders_above_or_below(tmp_path, archive):
    images, inputs = arrays()
    names = ["train/no/1", "train/no/2", "train/vort/3", "train/vort/4", "val/no/5", "val/vort/6"]
    above = ["/".join((split, *rest)) for split, *rest in (name.split("/") for name in names)]
    write_files(tmp_path / "a", above, images, inputs)  # train/no/HR/1.npy
    for half in ("HR", "LR"):  # HR/train/no/1.npy
        for split in ("train", "val"):
            for class_ in ("no", "vort"):
                target = tmp_path / "b" / half / split / class_
                shutil.copytree(tmp_path / "a" / split / class_ / half, target)
    digests = []
    for root in (tmp_path / "a", tmp_path / "b"):
        source = root
        if archive:
            source = shutil.make_archive(root, archive, tmp_path, root.name)
        found, report = packed(source, tmp_path / f"out_{root.name}")
        check(found, [f"{name}.npy" for name in names], images, inputs)
        assert report.classes == ("no", "vort") and [s.samples for s in report.splits] == [4, 2]
        digests.append(report.digest)
    assert digests[0] == digests[1]


def test_names_that_differ_are_joined_by_their_numbers(tmp_path):
    images, inputs = arrays()
    names = [f"HST_{i}" for i in range(6)]
    write_files(tmp_path / "a", names, images, inputs, low_name=lambda n: n.replace("HST", "hsc"))
    found, _ = packed(tmp_path / "a", tmp_path / "out")
    check(found, [f"{name}.npy" for name in names], images, inputs)
    shutil.copy(tmp_path / "a/LR/hsc_3.npy", tmp_path / "a/LR/other_3.npy")  # two of one number
    with pytest.raises(ShardError, match="13 of 13 objects cannot be packed"):
        pack(tmp_path / "a", tmp_path / "again")


def test_zeros_before_a_number_say_nothing(tmp_path):
    images, inputs = arrays()
    names = [f"hst_{i:03d}" for i in range(6)]
    write_files(tmp_path / "a", names, images, inputs, low_name=lambda n: f"hsc_{int(n[4:])}")
    found, _ = packed(tmp_path / "a", tmp_path / "out")
    check(found, [f"{name}.npy" for name in names], images, inputs)
    shutil.copy(tmp_path / "a/LR/hsc_3.npy", tmp_path / "a/LR/hsc_03.npy")  # two of one number
    with pytest.raises(ShardError, match="13 of 13 objects cannot be packed"):
        pack(tmp_path / "a", tmp_path / "again")


def test_other_folders_are_named(tmp_path):
    images, inputs = arrays()
    write_files(tmp_path / "a", NAMES, images, inputs, high="sharp", low="poor")
    found, _ = packed(tmp_path / "a", tmp_path / "out", pair="sharp,poor")
    check(found, [f"{name}.npy" for name in NAMES], images, inputs)
    with pytest.raises(ShardError, match="--pair sharp,pour: there are no two such folders"):
        pack(tmp_path / "a", tmp_path / "again", pair="sharp,pour")
    with pytest.raises(ShardError, match="pair: got sharp; it is two names"):
        pack(tmp_path / "a", tmp_path / "again", pair="sharp")


def test_missing_partners_are_counted_and_named_or_left_out(tmp_path):
    images, inputs = arrays()
    root = write_files(tmp_path / "a", NAMES, images, inputs)
    (root / "LR/sample10.npy").unlink()
    (root / "HR/sample2.npy").unlink()
    with pytest.raises(ShardError, match="2 of 6 objects cannot be packed") as error:
        pack(root, tmp_path / "out")
    assert "sample10.npy (HR/sample10.npy): its input is missing" in str(error.value)
    assert "LR/sample2.npy: the image of this input is missing" in str(error.value)
    found, report = packed(root, tmp_path / "out", skip_bad=True)
    assert len(found) == 4 and len(report.skipped) == 2


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (np.random.default_rng(0).random((1, 6, 6)), r"shape \(1, 6, 6\), most images have"),
        (np.full((1, 8, 8), np.nan), ".*NaN"),
    ],
)
def test_an_input_of_another_size_or_without_values_is_named(tmp_path, own, said):
    root = write_files(tmp_path / "a", NAMES, *arrays())
    np.save(root / "LR/sample10.npy", own)
    with pytest.raises(ShardError, match=rf"input {said}.* \(LR/sample10") as error:
        pack(root, tmp_path / "out")
    assert "1 of 6 images cannot be packed" in str(error.value)


@pytest.mark.parametrize(
    ("high", "low", "says"),
    [
        ((1, 16, 16), (1, 6, 6), r"sides that are no whole number of times those of the input\)"),
        ((1, 16, 16), (1, 8, 4), r"sides that are no whole number of times those of the input\)"),
        (
            (1, 8, 8),
            (1, 16, 16),
            r"an input that is larger than it\)",
        ),
        ((3, 16, 16), (1, 8, 8), r"another number of channels than the input\)"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(tmp_path, high, low, says):
    random = np.random.default_rng(0)
    values = [random.random((6, *shape)) for shape in (high, low)]
    root = write_files(tmp_path / "a", NAMES, *values)
    with pytest.raises(ShardError, match=f"6 x {says}"):
        pack(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inputs_may_have_as_many_pixels_as_images(tmp_path):
    root = write_files(tmp_path / "a", NAMES, *arrays(ratio=1))
    packed(root, tmp_path / "out")
    assert read_splits(tmp_path / "out")["train"].ratio == 1


def test_what_cannot_be_done_to_pairs_is_refused(tmp_path):
    root = write_files(tmp_path / "a", NAMES, *arrays())
    with pytest.raises(ShardError, match="--crop 8: images and inputs of pairs have sizes"):
        pack(root, tmp_path / "out", crop=8)
    np.save(root / "other.npy", np.eye(4))
    with pytest.raises(ShardError, match=r"other.npy lies beside the folders HR and LR of pairs"):
        pack(root, tmp_path / "out")


def test_unpacked_pairs_are_packed_to_the_same_set(tmp_path):
    names = [f"{'train' if i < 4 else 'val'}/{name}" for i, name in enumerate(NAMES)]
    root = write_files(tmp_path / "a", names, *arrays())
    first = pack(root, tmp_path / "one")
    assert unpack(tmp_path / "one", tmp_path / "files") == 12
    assert (tmp_path / "files/train/HR/sample1.npy").exists()
    assert pack(tmp_path / "files", tmp_path / "two").digest == first.digest
    assert data_digest(tmp_path / "two") == first.digest
