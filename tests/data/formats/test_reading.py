"""What a user may say of files is checked before one is read."""

import pytest

from deeplense_batch.data.formats.reading import flags_in
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError


def test_a_mask_value_is_a_number(tmp_path):
    with pytest.raises(ShardError, match=r"^mask_value: got 'none'; it is a number$"):
        pack(tmp_path, tmp_path / "out", mask_value="none")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fill_nan": 1.5}, "fill_nan: got 1.5; it is a share of the pixels, from 0 to 1"),
        ({"crop": 0}, "crop: got 0; it is a number of pixels above 0"),
        ({"pad": 2.5}, "pad: got 2.5; it is a number of pixels above 0"),
        ({"crop": 4, "pad": 5}, "crop: got 4, and pad 5; where both are given they are equal"),
        ({"extensions": "1,1"}, "extensions: got '1,1', which has '1' twice"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, given, message):
    with pytest.raises(ShardError, match=f"^{message}$"):
        pack(tmp_path, tmp_path / "out", **given)


@pytest.mark.parametrize(
    ("reading", "why"),
    [
        ({"bands": "g,r,g"}, r"^bands: got 'g,r,g', which has 'g' twice$"),
        ({"keep": ("mag", "")}, r"^keep: got 'mag,', which has an empty name$"),
        ({"missing_band": "skip"}, r"^missing_band: got 'skip'; it is one of refuse, zero, drop$"),
        ({"all_in": "all"}, r"^all_in: got 'all'; it is one of train, val, test$"),
        (
            {"all_in": "test", "split": "use"},
            r"^all_in puts all images into test, and split use into those of a column; give one",
        ),
        ({"path": "file", "pattern": "{id}.npy"}, r"^path and pattern both say where the files"),
    ],
)
def test_names_and_choices_are_checked(tmp_path, reading, why):
    with pytest.raises(ShardError, match=why):
        pack(tmp_path, tmp_path / "out", **reading)


def test_flags_of_reading_are_found_in_sentences():
    assert flags_in("--path names it, or --pattern '{id}.fits'; --skip_bad") == ["path", "pattern"]
    assert flags_in("a path--or none, --out and --path_of") == []
