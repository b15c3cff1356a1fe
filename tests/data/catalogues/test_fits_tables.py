"""FITS files that are tables are no images, whatever their names."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from astropy.table import Table
from made_sources import fill, noise

from deeplense_batch.data.catalogues.fits_tables import fits_columns, fits_tables, is_fits_table
from deeplense_batch.data.listing.archive import open_tree
from deeplense_batch.data.packing.pack import pack


def test_a_table_among_cutouts_is_found_by_its_name_and_content(tmp_path):
    root = fill(tmp_path / "set", *(f"cut/{i}.fits" for i in range(3)), "mosaic.fits")
    Table({"ID": np.arange(3)}).write(root / "hsc_cat.fits")
    with open_tree(root) as tree:
        assert fits_tables(tree, tree.names) == ["hsc_cat.fits"]
    assert is_fits_table(root / "hsc_cat.fits") and not is_fits_table(root / "mosaic.fits")
    with (root / "hsc_cat.fits").open("rb") as file:
        assert fits_columns(file) == ["ID"]


def test_a_fits_table_of_one_image_a_file_is_an_image(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("cat", "table"):
        column = fits.Column("IMAGE", "64E", dim="(8,8)", array=noise(len(name), (1, 8, 8)))
        fits.BinTableHDU.from_columns([column]).writeto(tmp_path / "set" / f"{name}.fits")
    assert pack(tmp_path / "set", tmp_path / "out").splits[0].samples == 2
