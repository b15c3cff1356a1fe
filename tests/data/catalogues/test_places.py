"""Where the files of rows are: beside the table, in a folder or archive, or anywhere."""

import re
import zipfile
from types import SimpleNamespace

import pandas as pd
import pytest
from made_catalogues import pixels, stamps, write

from deeplense_batch.data.catalogues import places
from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.catalogues.places import Places
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError


def test_paths_are_absolute_or_relative_to_the_table_or_to_a_folder(tmp_path):
    table = stamps(tmp_path / "survey")
    first = pack(tmp_path / "survey/objects.csv", tmp_path / "a")
    (tmp_path / "elsewhere").mkdir()
    absolute = table.assign(file_loc=[str(tmp_path / "survey" / f) for f in table.file_loc])
    absolute.to_csv(tmp_path / "elsewhere/absolute.csv", index=False)
    assert pack(tmp_path / "elsewhere/absolute.csv", tmp_path / "b").digest == first.digest
    above = table.assign(file_loc=[f"../survey/{file}" for file in table.file_loc])
    above.to_csv(tmp_path / "elsewhere/above.csv", index=False)
    assert pack(tmp_path / "elsewhere/above.csv", tmp_path / "c").digest == first.digest
    table.to_csv(tmp_path / "elsewhere/objects.csv", index=False)
    named = pack(tmp_path / "elsewhere/objects.csv", tmp_path / "d", images=tmp_path / "survey")
    assert named.digest == first.digest


def test_images_may_be_in_a_zip_or_were_on_another_machine(tmp_path):
    table = stamps(tmp_path)
    first = pack(tmp_path / "objects.csv", tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for file in table.file_loc:
            archive.write(tmp_path / file, f"download/{file}")
    zipped = pack(tmp_path / "objects.csv", tmp_path / "b", images=tmp_path / "images.zip",
                  path="file_loc")  # fmt: skip
    assert zipped.digest == first.digest
    other = table.assign(file_loc=[f"/home/someone/{file}" for file in table.file_loc])
    other.to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ShardError, match=r"and none of these files exists; --images names the"):
        pack(tmp_path / "other.csv", tmp_path / "c")
    some = other.assign(file_loc=[str(tmp_path / table.file_loc[0]), *other.file_loc[1:]])
    some.to_csv(tmp_path / "some.csv", index=False)
    with pytest.raises(ShardError, match=r"and there is no folder of them all; --images names"):
        pack(tmp_path / "some.csv", tmp_path / "c")
    assert (
        pack(tmp_path / "other.csv", tmp_path / "c", images=tmp_path / "cut").digest
        == first.digest
    )


def test_paths_of_windows_are_understood(tmp_path):
    table = stamps(tmp_path)
    digest = pack(tmp_path / "objects.csv", tmp_path / "a").digest
    names = [file.replace("/", "\\") for file in table.file_loc]
    table.assign(file_loc=names).to_csv(tmp_path / "there.csv", index=False)
    assert pack(tmp_path / "there.csv", tmp_path / "b").digest == digest
    for place in ("C:\\work\\", "\\\\server\\work\\"):
        absolute = table.assign(file_loc=[f"{place}{name}" for name in names])
        absolute.to_csv(tmp_path / "absolute.csv", index=False)
        out = tmp_path / f"of {place[0]}"
        assert pack(tmp_path / "absolute.csv", out, images=tmp_path / "cut").digest == digest


@pytest.mark.parametrize(
    ("values", "given", "advice"),
    [
        ("cut/{}", {}, {"pattern": "{file_loc}.npy"}),
        ("{}.npy", {}, {"images": "cut"}),
        ("{}", {}, {"images": "cut", "pattern": "{file_loc}.npy"}),
        ("{}", {"pattern": "cut/{file_loc}"}, {"pattern": "cut/{file_loc}.npy"}),
    ],
)
def test_the_flags_are_named_where_a_folder_or_an_ending_lacks(tmp_path, values, given, advice):
    table = stamps(tmp_path)
    digest = pack(tmp_path / "objects.csv", tmp_path / "a").digest
    write(tmp_path / "README.npy", pixels(9))  # so that cut is not the folder of all
    table.file_loc = [values.format(i) for i in range(len(table))]
    table.to_csv(tmp_path / "objects.csv", index=False)
    if "images" in advice:
        advice = advice | {"images": str(tmp_path / advice["images"])}
    flags = " ".join(f"--{n} " + (f"'{v}'" if n == "pattern" else v) for n, v in advice.items())
    with pytest.raises(ShardError, match=re.escape(f", but cut/0.npy is: {flags} says so")):
        pack(tmp_path / "objects.csv", tmp_path / "b", **given)
    assert pack(tmp_path / "objects.csv", tmp_path / "b", **advice).digest == digest


def test_what_says_nothing_is_refused(tmp_path):
    stamps(tmp_path)
    for reading, why in {
        ("path", "label"): r"none of its 6 rows has a file: column label gives 0, which is not in",
        ("path", "path_{band}"): r"--path: there is no --bands to put into \{band\}",
        (
            "path",
            "file_loc,label",
        ): r"--path names 2 columns, and --bands 0 bands; a column a band",
        ("pattern", "{name}.npy"): r"--pattern: there is no column for \{name\}",
        ("pattern", "*/{id}.npy"): r"--pattern: \* cannot stand in the pattern of a catalogue",
        ("images", "nowhere"): r"--images: nowhere: no such folder or file",
    }.items():
        with pytest.raises(ShardError, match=why):
            pack(tmp_path / "objects.csv", tmp_path / "out", **dict([reading]))


def test_the_words_of_bands_are_compared_once_whatever_the_number_of_rows(tmp_path, monkeypatch):
    asked = []
    found = places.band_as_written
    monkeypatch.setattr(places, "band_as_written", lambda *a: asked.append(a) or found(*a))
    pd.DataFrame({"id": range(50)}).to_csv(tmp_path / "t.csv", index=False)
    columns = Columns(tmp_path / "t.csv", Reading(pattern="{id}_{band}.npy", bands="g,r"))
    names = [f"{i}_HSC-{band}.npy" for i in range(50) for band in "GR"]
    files = Places(columns).find(SimpleNamespace(names=names))
    assert files == [names[::2], names[1::2]]
    assert len(asked) == 2
