"""What columns mean: by what the user says, or by their usual names where these are plain."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.catalogues.positions import positions
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.shards import ShardError


def columns(root, names, **reading):
    path = root / "t.csv"
    pd.DataFrame({name: ["a", "b"] for name in names}).to_csv(path, index=False)
    return Columns(path, Reading(**reading))


def test_usual_names_are_found_and_told(tmp_path):
    found = columns(tmp_path, ["Name", "file", "class"])
    assert (found.id, found.label, found.split, found.usual_path()) == (
        "Name",
        "class",
        "",
        ("file",),
    )
    assert [note.split(" is ")[0] for note in found.notes] == [
        "column Name",
        "column class",
        "column file",
    ]


def test_those_that_a_well_known_name_wins_over_are_told(tmp_path):
    found = columns(tmp_path, ["id", "id_str", "Name", "file_loc", "image"])
    found.usual_path()
    assert found.notes == [
        "column id_str is taken for the id, not id or Name (--id names another)",
        "column file_loc is taken for the path, not image (--path names another)",
    ]


def test_two_that_may_be_meant_are_refused_unless_one_is_named(tmp_path):
    with pytest.raises(ShardError, match=r"columns id, name may each be the id: .* --id id; its"):
        columns(tmp_path, ["id", "name"])
    assert columns(tmp_path, ["id", "name"], id="name").id == "name"
    assert columns(tmp_path, ["id", "label", "class"], label="none").label == ""


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.fits", "t.vot"])
def test_a_column_of_several_values_is_called_so(tmp_path, name):
    path = tmp_path / name
    rows = {"id": ["a", "b"], "emb": [[1.0, 2.0], [3.0, 4.0]], "label": [[1, 0], [0, 1]]}
    if path.suffix in (".fits", ".vot"):
        Table(rows).write(path, format={".fits": "fits", ".vot": "votable"}[path.suffix])
    elif path.suffix == ".jsonl":
        pd.DataFrame(rows).to_json(path, orient="records", lines=True)
    else:
        pd.DataFrame(rows).to_parquet(path)
    with pytest.raises(ShardError, match=r"--keep: column emb holds several values a row, and"):
        Columns(path, Reading(keep="emb"))
    found = Columns(path, Reading())
    assert found.names == ["id"]
    assert found.warnings == [
        "column label holds several values a row, and is not taken for the label"
    ]


def test_columns_of_arrays_of_any_length_and_of_nothing_are_called_so(tmp_path):
    varying = fits.Column("emb", "PJ()", array=np.array([[1], [1, 2]], object))
    ids = fits.Column("id", "2A", array=["a", "b"])
    fits.BinTableHDU.from_columns([ids, varying]).writeto(tmp_path / "t.fits")
    with pytest.raises(ShardError, match=r"--truth: column emb holds several values a row, and"):
        Columns(tmp_path / "t.fits", Reading(truth="emb"))
    (tmp_path / "t.jsonl").write_text('{"id": "a", "z": null}\n')
    with pytest.raises(ShardError, match=r"--truth: column z is empty in every row, and one"):
        Columns(tmp_path / "t.jsonl", Reading(truth="z"))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_column_that_is_there_twice_is_refused_where_it_is_used(tmp_path, name):
    def written(names):
        if name.endswith(".csv"):
            (tmp_path / name).write_text(f"{','.join(names)}\na,1,2\n")
        else:
            arrays = [pa.array(values) for values in (["a"], [1], [2])]
            pq.write_table(pa.table(arrays, names), tmp_path / name)
        return tmp_path / name

    path = written(["id", "z", "z"])
    for flag in ("keep", "truth"):
        with pytest.raises(ShardError, match=rf"--{flag}: column z is there more than once, and"):
            Columns(path, Reading(**{flag: "z"}))
    assert Columns(path, Reading()).names == ["id"]
    with pytest.raises(ShardError, match=r"column label is there more than once: rename"):
        Columns(written(["id", "label", "label"]), Reading())
    assert Columns(path, Reading(label="none")).label == ""
    with pytest.raises(ShardError, match=r"column Image is there more than once: rename"):
        Columns(written(["id", "Image", "Image"]), Reading()).usual_path()
    with pytest.raises(ShardError, match=r"column ra is there more than once: rename"):
        positions(Columns(written(["id", "ra", "ra"]), Reading()))


def test_a_column_of_paths_a_band_is_refused_with_the_flags_that_read_it(tmp_path):
    needs = r"has a column a band: --path 'path_\{band\}' --bands g,r reads them; its columns"
    with pytest.raises(ShardError, match=needs):
        columns(tmp_path, ["id", "path_r", "path_g"]).usual_path()
    asked = columns(tmp_path, ["id", "path_r", "path_g"], path="path_{band}", bands="g,r")
    assert asked.reading.path == ("path_{band}",)


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(ShardError, match=r"--truth: there is no column 'z'; its columns are a, b"):
        columns(tmp_path, ["a", "b"], truth="z")
    with pytest.raises(ShardError, match=r"--keep: 'a/b' has a '/', which shards cannot keep"):
        columns(tmp_path, ["a/b"], keep="a/b")
    with pytest.raises(ShardError, match=r"no column is known as the path of the images: --path"):
        columns(tmp_path, ["a"]).usual_path()
