"""Positions of a catalogue are kept in degrees, however its columns are called and written."""

import numpy as np
import pandas as pd
import pytest
from made_catalogues import packed, samples, stamps

from deeplense_batch.data.catalogues import positions as module
from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.catalogues.positions import positions
from deeplense_batch.data.formats.reading import Reading


def found(root, **columns):
    pd.DataFrame({"id": "a", **columns}).to_csv(root / "t.csv", index=False)
    return positions(Columns(root / "t.csv", Reading()))


@pytest.mark.parametrize(
    ("ra", "dec", "degrees"),
    [
        ("10:00:01.2", "-00:30:00", (150.005, -0.5)),
        ("10h00m01.2s", "+02d30m00s", (150.005, 2.5)),
        ("150d00m", "2 30 00", (150.0, 2.5)),
        ("150.25", "-2.5", (150.25, -2.5)),
    ],
)
def test_texts_are_read(tmp_path, ra, dec, degrees):
    where = found(tmp_path, RA=[ra, ra], Dec_deg=[dec, dec])
    for name, value in zip(("ra", "dec"), degrees, strict=True):
        np.testing.assert_allclose(where.columns[name], [value, value], atol=1e-9)
    assert not where.warnings
    assert where.notes[0].startswith("column RA is kept as ra")
    assert ("10:00:01.2 is read as hours" in where.notes[0]) is (ra == "10:00:01.2")
    assert ("2 30 00 is read as degrees" in where.notes[1]) is (dec == "2 30 00")
    assert "0m" not in " ".join(where.notes)  # what has its unit is read as it says


def test_of_several_columns_the_fullest_is_kept_and_the_others_are_named(tmp_path):
    where = found(tmp_path, RA=["", "2.0"], ra_deg=["1.0", "2.0"], dec=["3", "4"])
    assert where.columns["ra"].tolist() == [1, 2] and where.columns["dec"].tolist() == [3, 4]
    assert where.notes[0] == "column ra_deg is kept as ra, and RA is left out (--keep keeps it)"
    equal = found(tmp_path, ra_deg=["1.0", "2.0"], RA=["1.5", "2.5"])
    assert equal.columns["ra"].tolist() == [1.5, 2.5]


def test_what_is_no_position_is_a_warning_and_unknown(tmp_path):
    where = found(tmp_path, ra=["400", "10", "", "359"], dec=["95", "text", "1", "-90"])
    np.testing.assert_array_equal(where.columns["ra"], [np.nan, 10, np.nan, 359])
    np.testing.assert_array_equal(where.columns["dec"], [np.nan, np.nan, 1, -90])
    ra, dec = where.warnings
    assert ra.startswith(
        "column ra is no position in 1 row, such as '400' in row 1: ra is unknown"
    )
    assert dec.startswith("column dec is no position in 2 rows, such as '95' in row 1: dec is")
    none = found(tmp_path, ra=["north", "south"])
    assert not none.columns
    assert "in 2 rows, such as 'north' in row 1: the table gives no ra;" in none.warnings[0]


def test_without_astropy_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "has_fits", lambda: False)
    where = found(tmp_path, ra=["10:00:01.2"], dec=["1.5"])
    assert list(where.columns) == ["dec"]
    assert where.warnings[0].endswith("or a text such as 10:00:01.2; reading texts needs astropy")


def test_shards_hold_degrees_even_of_a_column_that_is_kept(tmp_path, capsys):
    stamps(tmp_path, 6, ra=["10:00:00"] * 6, dec=[f"-0{i}:30:00" for i in range(6)])
    shown = packed(capsys, tmp_path / "objects.csv", tmp_path / "out", "--keep", "ra,dec")
    assert "a text such as 10:00:00 is read as hours" in shown
    for id_, (_, _, kept) in samples(tmp_path / "out").items():
        i = int(id_) - 10**18
        np.testing.assert_allclose([kept["ra"], kept["dec"]], [150, -(i + 0.5)], atol=1e-9)
