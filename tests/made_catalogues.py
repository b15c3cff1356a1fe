"""Surveys as small trees of files with their tables, which several tests of catalogues pack."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from deeplense_batch.__main__ import main
from deeplense_batch.data.shards import open_split, read_splits

N, SCALE = 12, 0.168  # pixels of a side, and arcsec


def pixels(*key):
    return np.random.default_rng(key).normal(size=(N, N)).astype(np.float32)


def header(ra, dec, *, band="", name="", scale=SCALE):
    """A FITS header whose WCS has its reference at the centre of the image."""
    cards = fits.Header()
    cards["CTYPE1"], cards["CTYPE2"] = "RA---TAN", "DEC--TAN"
    cards["CRPIX1"] = cards["CRPIX2"] = (N + 1) / 2
    cards["CRVAL1"], cards["CRVAL2"] = ra, dec
    cards["CDELT1"], cards["CDELT2"] = -scale / 3600, scale / 3600
    cards["RADESYS"] = "ICRS"
    if band:
        cards["FILTER"] = band
    if name:
        cards["OBJECT"] = name
    return cards


def sky(count):
    """Positions, some of them on both sides of 0 h, and labels of some objects."""
    i = np.arange(count)
    return pd.DataFrame(
        {
            "id": [f"J{k:04d}" for k in i],
            "ra": (359.9 + 0.05 * i) % 360,
            "dec": -5 + 0.1 * i,
            "kind": np.where(i % 3 == 0, "lens", "other"),
        }
    )


def write(path, array, *, cards=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        fits.writeto(path, array, cards)


def stamps(root, count=6, **columns):
    """A table ``objects.csv`` of id_str, file_loc and label, and its stamps below ``cut/``."""
    table = pd.DataFrame(
        {
            "id_str": [str(10**18 + i) for i in range(count)],
            "file_loc": [f"cut/{i}.npy" for i in range(count)],
            "label": [i % 2 for i in range(count)],
        }
    )
    for i in range(count):
        write(root / f"cut/{i}.npy", pixels(i))
    table = table.assign(**columns)
    table.to_csv(root / "objects.csv", index=False)
    return table


def exit_code(words):
    with pytest.raises(SystemExit) as end:
        main(["pack", *map(str, words)])
    return end.value.code


def packed(capsys, *words):
    """What the command printed; it must have gone well."""
    code = exit_code(words)
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return shown.out


def refused(capsys, *words):
    """What the command said when it refused its source."""
    code = exit_code(words)
    shown = capsys.readouterr()
    assert code == 3, shown.out
    return shown.err


def samples(root):
    """Image, class and columns of every sample of a set, by its id."""
    found = {}
    for name in read_splits(root):
        split = open_split(root, name)
        columns = {column: split.catalogue(column) for column in split.columns()}
        images, targets = split.images(), split.targets()
        for i, id_ in enumerate(split.ids()):
            kept = {column: values[i] for column, values in columns.items()}
            found[id_] = (images[i], targets[i], kept)
    return found
