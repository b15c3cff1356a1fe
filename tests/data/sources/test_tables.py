"""Tables beside images: named with their columns, and with the command that packs them."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from conftest import typed
from made_sources import fill, noise, told

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import open_split
from deeplense_batch.data.sources.sources import open_source


def test_a_table_beside_images_without_labels_is_named_with_its_columns(tmp_path):
    root = fill(tmp_path / "set", "images/1.npy", "images/2.npy")
    (root / "labels.csv").write_text("id;is_lens\n1;0\n")
    pd.DataFrame({"name": ["1"], "z": [0.5]}).to_parquet(root / "t.parquet")
    (root / "a.json").write_text(json.dumps([{"id": 1, "kind": "no"}]))
    (root / "catalog.txt").write_text("# made by hand\nRA DEC class\n1 2 no\n")
    (root / "README.txt").write_text("about")
    text = told(root)
    assert (
        "lies tables, which are not read: a.json (columns id, kind); catalog.txt (columns" in text
    )
    for name in ("a.json (columns id, kind)", "catalog.txt (columns RA, DEC, class)",
                 "labels.csv (columns id, is_lens)", "and 1 more"):  # fmt: skip
        assert name in text
    assert "README.txt (" not in text
    labelled = fill(tmp_path / "labelled", "a/1.npy", "b/2.npy")
    (labelled / "labels.csv").write_text("id,is_lens")
    assert "WARNING" not in told(labelled) and "1 file ignored, no image: labels" in told(labelled)


def test_a_compressed_table_beside_unlabelled_images_is_told(tmp_path):
    (tmp_path / "set").mkdir()
    for i in range(3):
        np.save(tmp_path / "set" / f"{i}.npy", noise(i))
    (tmp_path / "set" / "labels.csv.gz").write_bytes(b"")
    assert "lies a table, which is not read: labels.csv.gz" in str(
        pack(tmp_path / "set", tmp_path / "out")
    )


BANDS = [f"{i}_{band}.fits" for i in range(10) for band in "gri"]


def packed_as_offered(capsys, root, out):
    """Run the command that is offered for the table beside images."""
    with open_source(root) as source:
        (warning,) = source.warnings
    command = warning[warning.index("; pack ") + 2 :].partition(" reads it")[0]
    code, _, error = typed(capsys, *shlex.split(command.replace(" OUT ", f" {out} ")))
    assert code == 0, error


@pytest.mark.parametrize(
    ("columns", "files"),
    [
        (("id", "path", "ra", "dec"), "--path path reads it; --label names its column of classes"),
        (
            ("id", "path", "ra", "kind"),
            "--path path reads it; --label names its column of classes",
        ),
        (("id", "path", "mag", "class"), "--path path --label class reads it, if class is the"),
        (("id", "file", "objid"), "--id id --path file reads it; --label names"),
    ],
)
def test_the_command_that_is_offered_reads_the_table(tmp_path, capsys, columns, files):
    root = fill(tmp_path / "set", *(f"cut/{i}.npy" for i in range(10)))
    values = {"path": "cut/{}.npy", "file": "cut/{}.npy", "kind": "ab", "class": "ab"}
    table = {
        name: [
            values[name][i % 2] if values.get(name) == "ab" else values.get(name, "{}").format(i)
            for i in range(10)
        ]
        for name in columns
    }
    pd.DataFrame(table).to_csv(root / "t.csv", index=False)
    with open_source(root) as source:
        (warning,) = source.warnings
    assert f"pack {root}/t.csv OUT --images {root} {files}" in warning
    packed_as_offered(capsys, root, tmp_path / "out")
    split = open_split(tmp_path / "out", "train")
    assert bool(split.info.classes) == ("--label " in files and "names" not in files)
    assert set(split.ids()) <= set("0123456789")


def test_columns_of_the_paths_of_bands_are_known(tmp_path, capsys):
    root = fill(tmp_path / "set", *BANDS)
    table = {f"path_{band}": [f"{i}_{band}.fits" for i in range(10)] for band in "irg"}
    pd.DataFrame({"name": np.arange(10)} | table).to_csv(root / "t.csv", index=False)
    assert "--path 'path_{band}' --bands g,r,i reads it; --label" in str(told(root))
    packed_as_offered(capsys, root, tmp_path / "out")
    assert open_split(tmp_path / "out", "train").info.bands == ("g", "r", "i")


@pytest.mark.parametrize("place", ["cut/", ""])
def test_a_catalogue_in_fits_is_no_image(tmp_path, capsys, place):
    root = fill(tmp_path / "set", *(f"{place}{i}.fits" for i in range(10)))
    table = Table({"ID": np.arange(10), "label": np.arange(10) % 2})
    table.write(root / "hsc_cat.fits")
    with open_source(root) as source:
        assert len(source.splits["train"]) == 10 and source.ignored == ("hsc_cat.fits",)
        assert "lies a table, which is not read: hsc_cat.fits (columns ID, label)" in str(
            source.warnings
        )
    packed_as_offered(capsys, root, tmp_path / "out")
    assert open_split(tmp_path / "out", "train").info.classes == ("0", "1")
    bands = fill(tmp_path / "bands", *BANDS)
    table.write(bands / "cat.fits")
    assert "pack it in their place: --images is their folder, --pattern '{id}_" in told(bands)
    labelled = fill(tmp_path / "labelled", "a/1.fits", "b/2.fits")
    table.write(labelled / "objects.fits")
    assert "1 file ignored, no image: objects.fits" in told(labelled)


def test_columns_that_are_offered_are_those_that_the_table_has_when_it_is_packed(tmp_path):
    root = fill(tmp_path / "set", "1.npy", "2.npy")
    (root / "t.csv").write_text("# object_id,ra,dec\n1,10.5,3\n2,11.5,4\n")
    assert "t.csv (columns object_id, ra, dec)" in told(root)
    assert "--id object_id --pattern '{id}.npy'" in told(root)
