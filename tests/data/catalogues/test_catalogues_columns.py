"""What columns mean: by what the user says, or by their usual names where these are plain."""

import pandas as pd
import pytest

from deeplense_batch.data.catalogues.columns import Columns
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


def test_two_that_may_be_meant_are_refused_unless_one_is_named(tmp_path):
    with pytest.raises(ShardError, match=r"columns id, name may each be the id: .* --id id; its"):
        columns(tmp_path, ["id", "name"])
    assert columns(tmp_path, ["id", "name"], id="name").id == "name"
    assert columns(tmp_path, ["id", "label", "class"], label="none").label == ""


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(ShardError, match=r"--truth: there is no column 'z'; its columns are a, b"):
        columns(tmp_path, ["a", "b"], truth="z")
    with pytest.raises(ShardError, match=r"--keep: 'a/b' has a '/', which shards cannot keep"):
        columns(tmp_path, ["a/b"], keep="a/b")
    with pytest.raises(ShardError, match=r"no column is known as the path of the images: --path"):
        columns(tmp_path, ["a"]).usual_path()
