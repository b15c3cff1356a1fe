"""Sets of images in one file: what they hold, and what is refused."""

import h5py
import numpy as np
import pytest
from astropy.io import fits
from conftest import typed
from made_sources import fill, listing, zipped

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.sources.sources import open_source


def image(seed=0, shape=(1, 6, 8)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


COMMON = [f"{s}/{c}/{i}.npy" for s in ("train", "val") for c in ("no", "sphere", "vort")
          for i in (1, 2, 10)]  # fmt: skip


def save_set(path, n, labels, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"images": image(n, (n, 1, 6, 8))} | ({} if labels is None else {"labels": labels})
    np.savez(path, **arrays, **more)
    return arrays["images"]


def test_npz_sets(tmp_path):
    train = save_set(tmp_path / "train.npz", 4, [0, 2, 1, 0])
    val = save_set(tmp_path / "val.npz", 2, np.array([1.0, 2.0]))
    layout, classes, splits = listing(tmp_path)
    assert (layout, classes) == ("{split}.npz", ("0", "1", "2"))
    assert splits == {
        "train": [(f"train.npz[{i}]", target) for i, target in enumerate([0, 2, 1, 0])],
        "val": [("val.npz[0]", 1), ("val.npz[1]", 2)],
    }
    with open_source(tmp_path) as source:
        assert "name no classes" in source.notes[0] and "no, vort, sphere" in source.notes[0]
        for split, pixels in (("val", val), ("train", train)):
            for sample, expected in zip(source.splits[split], pixels, strict=True):
                assert (source.read(sample).pixels == expected).all()
    assert listing(zipped(tmp_path, tmp_path.parent / "sets.zip", "x/")) == listing(tmp_path)


def test_npz_sets_that_name_their_classes(tmp_path):
    save_set(tmp_path / "train.npz", 3, [0, 1, 0], classes=np.array(["no", "vort", "sphere"]))
    _, classes, splits = listing(tmp_path / "train.npz")
    assert classes == ("no", "vort", "sphere")
    assert [target for _, target in splits["train"]] == [0, 1, 0]
    save_set(tmp_path / "val.npz", 1, [3], classes=np.array(["no", "vort", "sphere"]))
    with pytest.raises(ShardError, match="has label 3, but names only 3 classes"):
        listing(tmp_path)
    save_set(tmp_path / "val.npz", 1, [0])
    with pytest.raises(ShardError, match="name different classes"):
        listing(tmp_path)


def test_npz_sets_without_split_or_without_labels(tmp_path):
    save_set(tmp_path / "all.npz", 10, [0] * 5 + [1] * 5)
    assert {s: len(x) for s, x in listing(tmp_path / "all.npz")[2].items()} == {
        "train": 8, "val": 2,
    }  # fmt: skip
    save_set(tmp_path / "all.npz", 3, None)
    assert listing(tmp_path / "all.npz")[1:] == (
        (),
        {"train": [(f"all.npz[{i}]", -1) for i in range(3)]},
    )


def test_npz_sets_of_which_only_some_name_a_split_or_none_holds_images(tmp_path):
    save_set(tmp_path / "train.npz", 3, [0, 1, 0])
    save_set(tmp_path / "extra.npz", 3, [0, 1, 0])
    with pytest.raises(ShardError, match=r"unknown layout, extra.npz, train.npz; known are"):
        listing(tmp_path)
    np.savez(tmp_path / "none.npz", images=np.empty((0, 6, 8)), labels=[])
    with pytest.raises(ShardError, match=r"unknown layout, none.npz; known are"):
        listing(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": image(0, (3, 6, 8)), "labels": [0, 1]}, r"3 images, but labels of shape \(2"),
        ({"images": image(0, (3, 6, 8)), "labels": [0, 1, 0.5]}, "labels must be class numbers"),
        ({"images": image(0, (3, 6, 8)), "labels": [0, 1, -2]}, "labels must be class numbers"),
        ({"images": image(0, (2, 6, 8)), "labels": [0, 7500]}, "labels must be class numbers"),
        ({"images": image(0, (2, 6, 8)), "labels": ["a", "b"]}, "labels must be class numbers"),
        ({"images": image(0, (6, 8)), "labels": [0] * 6}, r"'images' has shape \(6, 8\)"),
        ({"images": image(0, (1, 6, 8)), "labels": np.array([None])}, "a pickled object"),
    ],
)
def test_npz_sets_that_do_not_fit_together(tmp_path, arrays, message):
    np.savez(tmp_path / "train.npz", **arrays)
    with pytest.raises(ShardError, match=f"train.npz: {message}"):
        listing(tmp_path)


def test_npz_files_that_must_be_sets(tmp_path):
    arrays = {"A": image(0, (9, 6, 8)), "B": image(1, (9, 6, 8))}
    for name in ("train", "all", "val_extra"):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    for source in (tmp_path, tmp_path / "all.npz"):
        with pytest.raises(
            ShardError, match=r"npz: holds the arrays A, B; a set has 'images' .*'labels' \(N,\)"
        ) as caught:
            listing(source)
        assert "skip_bad" not in str(caught.value)
    save_set(tmp_path / "train.npz", 3, [0, 1, 0])
    for name in ("all", "val_extra"):
        (tmp_path / f"{name}.npz").unlink()
    (tmp_path / "val.npz").write_bytes((tmp_path / "train.npz").read_bytes()[:-40])
    for source in (tmp_path, tmp_path / "val.npz"):
        with pytest.raises(ShardError, match=r"val.npz: is a damaged or incomplete .npz"):
            listing(source)


def test_npz_sets_that_are_broken(tmp_path):
    save_set(tmp_path / "train.npz", 3, [0, 1, 0])
    np.save(tmp_path / "1.npy", image())
    with pytest.raises(
        ShardError, match=r"unknown layout, sets of images beside other files such as"
    ):
        listing(tmp_path)
    (tmp_path / "1.npy").unlink()
    np.savez(tmp_path / "train.npz", images=image(0, (40, 64, 64)), labels=[0] * 40)
    data = bytearray((tmp_path / "train.npz").read_bytes())
    data[300_000] ^= 1
    (tmp_path / "train.npz").write_bytes(data)
    with pytest.raises(ShardError, match=r"train.npz: 'images'"):
        listing(tmp_path)


def write_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def test_the_galaxies_of_galaxy10(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), np.uint8)
    path = write_hdf5(
        tmp_path / "Galaxy10_DECals.h5", images=colours, ans=np.array([0, 1, 2, 0, 1, 2], "u1"),
        ra=np.arange(6.0), dec=-np.arange(6.0), redshift=np.full(6, 0.1),
        pxscale=np.full(6, 0.262),
    )  # fmt: skip
    with open_source(path) as source:
        assert source.classes == ("0", "1", "2")
        assert any("array 'images', class numbers of 'ans'" in note for note in source.notes)
        for split in source.splits.values():
            for sample in split:
                image = source.read(sample)
                assert (image.pixels == colours[sample.index].transpose(2, 0, 1)).all()
                assert image.pixels.dtype == np.uint8
                assert (image.header.ra, image.header.dec) == (sample.index, -sample.index)
                assert image.header.pixel_scale == pytest.approx(0.262)
                assert source.columns["redshift"][sample.row] == 0.1
        assert set(source.columns) == {"ra", "dec", "redshift", "pxscale"}
    report = pack(path, tmp_path / "out", seed=1)
    assert "pixel scale 0.262 arcsec, by pxscale" in report.notes
    assert "GravLensNet" not in str(report) and "layout set of images (.h5);" in str(report)
    assert {(split.dtype, split.stored) for split in report.splits} == {("uint8", "uint8")}


def test_the_form_of_the_multimodal_universe(tmp_path):
    def healpix(number, bands=(b"g", b"r")):
        path = tmp_path / "mmu" / f"healpix={number}" / "001-of-001.hdf5"
        path.parent.mkdir(parents=True)
        n = 3
        return write_hdf5(
            path, image_array=image(number, (n, 2, 8, 8)), image_band=[bands] * n,
            image_scale=np.full((n, 2), 0.168, "f4"), image_ivar=image(9, (n, 2, 8, 8)),
            object_id=np.array([f"{number}{i}".encode() for i in range(n)]),
            ra=np.arange(n) + 0.5, dec=np.zeros(n), a_g=np.ones(n, "f4"),
        )  # fmt: skip

    healpix(10)
    healpix(11)
    with open_source(tmp_path / "mmu") as source:
        (samples,) = source.splits.values()
        assert len(samples) == 6 and source.classes == ()
        read = source.read(samples[4])
        assert read.bands == ("g", "r") and samples[4].id == "111"
        assert read.header.pixel_scale == pytest.approx(0.168) and read.header.ra == 1.5
        assert [s.id for s in samples] == ["100", "101", "102", "110", "111", "112"]
        assert "object_id" not in source.columns
        assert source.layout == "set of images (.hdf5)"
        assert "image_ivar of healpix=10" in str(source.warnings)
    healpix(12, (b"r", b"g"))
    report = pack(tmp_path / "mmu", tmp_path / "out", skip_bad=True)
    assert len(report.skipped) == 3 and "bands r, g" in report.skipped[0].reason


def test_arrays_of_other_names_are_found_or_named(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", pics=image(0, (4, 8, 8)), kind=np.array([0, 1, 0, 1]))
    assert listing(path)[1] == ("0", "1")
    write_hdf5(tmp_path / "b.h5", A=image(0, (4, 8, 8)), B=image(1, (4, 8, 8)), n=np.arange(4),
               m=np.array([1, 0, 1, 0]))  # fmt: skip
    with pytest.raises(ShardError, match=r"b.h5: holds the arrays A, B, m, n; .* --images_key"):
        listing(tmp_path / "b.h5")
    reading = Reading(images_key="B", labels_key="m")
    with open_source(tmp_path / "b.h5", reading=reading) as source:
        (sample, *_) = source.splits["train"]
        assert (source.read(sample).pixels[0] == image(1, (4, 8, 8))[sample.index]).all()
        assert sorted(s.target for split in source.splits.values() for s in split) == [0, 0, 1, 1]
    for key, message in (("images_key", "has no array 'C'; it has A"), ("labels_key", "no array")):
        given = Reading(**({"images_key": "B"} | {key: "C"}))
        with pytest.raises(ShardError, match=message), open_source(path.with_name("b.h5"),
                                                                    reading=given):  # fmt: skip
            pass


def test_object_numbers_are_no_labels(tmp_path):
    ids = np.array([39627, 39628, 40001, 40002])
    path = write_hdf5(tmp_path / "a.h5", images=image(0, (4, 8, 8)), number=ids)
    assert listing(path)[1] == ()


@pytest.mark.parametrize("shape", [(3, 8, 8), (5, 2, 8, 8), (5, 8, 8, 3)])
def test_an_npy_that_is_the_source_is_a_stack(tmp_path, shape):
    stack = image(0, shape)
    np.save(tmp_path / "x.npy", stack)
    with open_source(tmp_path / "x.npy") as source:
        (samples,) = source.splits.values()
        assert [s.id for s in samples] == [f"x.npy[{i}]" for i in range(shape[0])]
        pixels = source.read(samples[1]).pixels
        rows = stack[1][None] if len(shape) == 3 else stack[1]
        assert (pixels == (rows.transpose(2, 0, 1) if shape[-1] == 3 else rows)).all()
    np.save(tmp_path / "x.npy", image(0, (8, 8)))
    with pytest.raises(ShardError, match=r"x.npy: 'images' has shape \(8, 8\)"):
        listing(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.h5"])
def test_a_damaged_set_is_one_sentence(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"no set at all")
    code, _, error = typed(capsys, "pack", tmp_path / name, tmp_path / "out")
    assert code == 3 and "Traceback" not in error and f"{name}: " in error


def test_shards_are_not_packed_again(tmp_path):
    pack(fill(tmp_path / "set", *COMMON), tmp_path / "data")
    with pytest.raises(ShardError, match=r"holds shards, such as .*, which are packed already"):
        pack(tmp_path / "data", tmp_path / "again")


def test_hdf5_beside_images_is_left_out_with_a_warning(tmp_path):
    fill(tmp_path, "a/1.npy", "b/1.npy")
    write_hdf5(tmp_path / "more.h5", images=image(0, (4, 8, 8)))
    with open_source(tmp_path) as source:
        assert "1 .h5 beside 2 images left out" in str(source.warnings)


def test_a_fits_table_of_stamps_is_a_set(tmp_path):
    stamps = image(0, (5, 2, 8, 6))
    columns = [
        fits.Column("STAMP", "96E", dim="(6,8,2)", array=stamps),
        fits.Column("label", "J", array=np.array([0, 1, 0, 1, 0])),
        fits.Column("ra", "D", array=np.arange(5.0)),
        fits.Column("NAME", "4A", array=np.array(["a", "b", "c", "d", "e"])),
    ]
    path = tmp_path / "stamps.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    with open_source(path) as source:
        assert source.classes == ("0", "1")
        for split in source.splits.values():
            for sample in split:
                read = source.read(sample)
                assert (read.pixels == stamps[sample.index]).all()
                assert read.header.ra == sample.index
                assert sample.id == "abcde"[sample.index]
    packed = pack(path, tmp_path / "by_ra", id="ra", pixel_scale=0.2)
    assert packed.layout == "set of images (.fits)"
    assert set(open_split(tmp_path / "by_ra", "train").ids()) <= set("01234")
    with pytest.raises(ShardError, match=r"--label names columns .* of a set of images are named"):
        pack(path, tmp_path / "out", label="label")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardError, match=r"stamps.fits: "):
        pack(path, tmp_path / "out")
    fits.PrimaryHDU(stamps[0]).writeto(tmp_path / "one.fits")
    assert listing(tmp_path / "one.fits")[2] == {"train": [("one.fits", -1)]}


def test_arrays_in_groups_are_those_of_the_set(tmp_path):
    """Two of one name cannot be kept, and are named."""
    pixels, labels = image(0, (5, 1, 8, 8)), np.array([0, 1, 0, 1, 0])
    path = write_hdf5(
        tmp_path / "a.h5",
        **{"data/images": pixels, "data/labels": labels, "data/noise": image(1, (5, 1, 8, 8)),
           "meta/ra": np.arange(5.0), "meta/object_id": np.arange(5) + 70,
           "g/mag": np.ones(5), "r/mag": np.ones(5)},
    )  # fmt: skip
    report = pack(path, tmp_path / "out")
    assert "arrays noise of a.h5, g/mag (no '/' can be kept) of a.h5, r/mag" in str(report)
    split = open_split(tmp_path / "out", "train")
    assert split.columns() == ["ra"]
    rows = [int(id_) - 70 for id_ in split.ids()]
    assert (split.images() == pixels[rows]).all() and list(split.targets()) == list(labels[rows])
    assert list(split.catalogue("ra")) == rows
    for key in ("data/noise", "noise"):
        with open_source(
            path, reading=Reading(images_key=key, labels_key="data/labels")
        ) as source:
            assert any("array 'noise', class numbers of 'labels'" in n for n in source.notes)
