"""A set's catalogue, bands and groups, from its shards to every table of a finished run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import make_job, typed
from made_catalogues import header, sky, write
from made_shards import write_catalogue

from deeplense_batch.core.recipe import evaluation_of
from deeplense_batch.core.scoring.figures import save as save_figure
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference import predict as module
from deeplense_batch.inference.images.catalogue import columns_of_shards
from deeplense_batch.inference.predict import predict
from deeplense_batch.inference.table import TableError
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.report.collect import collect
from deeplense_batch.runs.evaluation_run import evaluate_run
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run

RANDOM = np.random.default_rng(4)
SHAPE = (3, 24, 24)
BIG = 2**53 + 1  # no float64


def catalogue(count, first=0):
    """Positions, exact numbers, texts like formulas, a column with gaps, and tiles of three."""
    numbers = np.arange(first, first + count)
    mag = 18 + numbers / 7
    mag[1] = np.nan
    return {
        "ra": 150 + numbers * 0.01,
        "dec": -2 + numbers * 0.02,
        "object_id": BIG + numbers,
        "name": np.array([f"=J{n}, x" if n % 2 else "" for n in numbers.tolist()], object),
        "mag": mag,
        "label": np.array([f"spiral {n}" for n in numbers.tolist()], object),
        "tile": np.array([f"t{n // 3}" for n in numbers.tolist()], object),
    }


def write_survey(root, *, bare=False, changed=(), **options):
    """Splits train and val of 30 and 24 images in three bands; some columns are changed."""
    options = {"bands": ("g", "r", "i"), "group": "" if bare else "tile"} | options
    for split, count, first in (("train", 30, 0), ("val", 24, 30)):
        own = {} if bare else catalogue(count, first)
        own |= {name: np.full(count, value) for name, value in dict(changed).items()}
        write_catalogue(root, split, own, samples=count, shape=SHAPE, **options)
    return root


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey") / "set")


def train(survey, root, **fields):
    (item,) = plan([make_job(survey, train={"epochs": 1}, **fields)], root)
    run(item, device="cpu")
    return item.run.path


@pytest.fixture(scope="module")
def done(survey, tmp_path_factory):
    return train(survey, tmp_path_factory.mktemp("runs"))


def read(path):
    types = {"object_id": "int64"}
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=types)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predictions_join_the_original_table_by_id_and_by_position(done, survey, tmp_path, suffix):
    out = tmp_path / f"found.{suffix}"
    for part in (1, 0):
        predict(done, survey, out, device="cpu", part=part, parts=2)
    table = read(out)
    names = [*catalogue(3)]
    shown = ["catalogue_label" if name == "label" else name for name in names]
    assert list(table.columns)[: len(names) + 3] == ["id", *shown, "split", "label"]

    original = pd.concat(
        pd.DataFrame({"id": open_split(survey, s).ids()} | catalogue(n, first))
        for s, n, first in (("train", 30, 0), ("val", 24, 30))
    )
    joined = table.merge(original, on="id", suffixes=("", "_of_table"), validate="one_to_one")
    assert len(joined) == 54
    assert (joined["object_id"] == joined["object_id_of_table"]).all()
    assert joined["object_id"].dtype == np.int64 and joined["object_id"].max() == BIG + 53
    assert joined["mag"].isna().sum() == 2
    assert (joined["catalogue_label"] == joined["label_of_table"]).all()
    named = joined["name_of_table"] != ""
    texts = joined["name"][named].str.removeprefix("'" if suffix == "csv" else "")
    assert (texts == joined["name_of_table"][named]).all()
    assert joined["name"][~named].isna().all()

    coordinates = pytest.importorskip("astropy.coordinates")
    ours, theirs = (
        coordinates.SkyCoord(t["ra"].to_numpy(), t["dec"].to_numpy(), unit="deg")
        for t in (table.sample(frac=1, random_state=0), original)
    )
    index, apart, _ = ours.match_to_catalog_sky(theirs)
    assert apart.arcsec.max() < 1e-6
    shuffled = table.sample(frac=1, random_state=0)["id"].tolist()
    assert original["id"].iloc[index].tolist() == shuffled


def test_columns_are_chosen_and_unknown_ones_refused(done, survey, tmp_path):
    predict(done, survey, tmp_path / "two.parquet", device="cpu", columns=("dec", "ra"))
    assert pq.read_schema(tmp_path / "two.parquet").names[:4] == ["id", "dec", "ra", "split"]
    predict(done, survey, tmp_path / "no.parquet", device="cpu", columns=("none",))
    assert pq.read_schema(tmp_path / "no.parquet").names[:3] == ["id", "split", "label"]
    with pytest.raises(ShardError, match=r"--columns: .* has no column 'rA2'; did you mean 'ra'"):
        predict(done, survey, tmp_path / "x.csv", device="cpu", columns=("rA2",))


def test_a_table_of_another_catalogue_is_not_gone_on_with(done, survey, tmp_path):
    out = tmp_path / "found.csv"
    predict(done, survey, out, device="cpu", slice_="val")
    other = write_survey(tmp_path / "set", changed={"mag": 20.0})
    with pytest.raises(TableError, match=r"answers another question .*catalogue is ra, dec"):
        predict(done, other, out, device="cpu", slice_="val")
    predict(done, survey, out, device="cpu", slice_="val")  # the same is taken as it is


def test_without_a_catalogue_a_table_asks_and_answers_as_before(done, tmp_path):
    bare = write_survey(tmp_path / "set", bare=True, bands=())
    predict(done, bare, tmp_path / "found.csv", device="cpu", slice_="val")
    question = json.loads((tmp_path / "found.csv.json").read_text())["question"]
    assert question.pop("catalogue") is None
    assert set(question) == {"run", "weights", "data", "slice", "amp"}


def test_other_bands_are_refused_in_prediction_evaluation_and_told_of_in_training(
    done, survey, tmp_path, caplog
):
    assert open_trained(done).bands == ("g", "r", "i")
    turned = write_survey(tmp_path / "turned", bands=("i", "r", "g"))
    says = r"bands i, r, g; \S+ has learnt g, r, i in this order"
    with pytest.raises(ShardError, match=says):
        predict(done, turned, tmp_path / "found.csv", device="cpu")
    (item,) = plan([evaluation_of([done], turned, "val", seed=0)], tmp_path / "runs")
    with pytest.raises(ShardError, match=says):
        evaluate_run(item, device="cpu")
    (item,) = plan([make_job(turned, train={"epochs": 1, "init": str(done)})], tmp_path / "tuned")
    run(item, device="cpu")
    said = "has learnt the bands g, r, i; these images have i, r, g"
    assert said in caplog.text
    notes = json.loads((item.run.path / "metrics.json").read_text())["test"]["notes"]
    assert any(said in note for note in notes)


def test_runs_keep_the_catalogue_of_their_test_slice_and_reports_resample_groups(
    done, survey, tmp_path
):
    kept = pd.read_parquet(done / "catalogue.parquet")
    with np.load(done / "outputs.npz") as outputs:
        assert kept["id"].tolist() == outputs["ids"].tolist()
        assert "catalogue" not in "".join(outputs.files)
    expected = pd.DataFrame(catalogue(24, 30)).tail(len(kept))
    assert kept["object_id"].tolist() == expected["object_id"].tolist()

    (item,) = plan([evaluation_of([done], survey, "val", seed=0)], tmp_path / "runs")
    evaluate_run(item, device="cpu")
    assert len(pd.read_parquet(item.run.path / "catalogue.parquet")) == 24
    report = collect(tmp_path / "runs", tmp_path / "report", rgb=("g", "r", "i"))
    assert report.complete
    (comparison,) = json.loads((tmp_path / "report/results.json").read_text())["comparisons"]
    assert comparison["resampled"] == {"column": "tile", "groups": 8}
    said = "intervals resample 8 groups of images (column tile)"
    for page in ("report.html", "report.md"):
        assert said in (tmp_path / "report" / page).read_text()
    figures = json.loads((tmp_path / "report/figures.json").read_text())["figures"]
    hardest = next(one for one in figures if one["name"] == "hardest")["arguments"]
    assert hardest["rgb"] == ["g", "r", "i"]
    by_id = dict(zip(open_split(survey, "val").ids(), catalogue(24, 30)["ra"], strict=True))
    assert all(one["catalogue"]["ra"] == by_id[one["id"]] for one in hardest["samples"])


def test_the_sheet_of_the_best_shows_where_they_are_in_the_colours_asked_for(
    done, survey, tmp_path, monkeypatch
):
    sheets = []

    def keep(images, names, title, *, rgb):
        sheets.append((names, rgb))
        return contact_sheet(images, names, title, rgb=rgb)

    contact_sheet = module.contact_sheet
    monkeypatch.setattr(module, "contact_sheet", keep)
    monkeypatch.setattr(module.figures, "save", save_figure)
    out = tmp_path / "found.parquet"
    predict(done, survey, out, device="cpu", top=4)
    out.with_suffix(".png").unlink()
    predict(done, survey, out, device="cpu", top=4, rgb=("g", "r", "i"))
    assert [rgb for _, rgb in sheets] == [(2, 1, 0), (0, 1, 2)]
    table = pd.read_parquet(out).set_index("id")
    for name in sheets[0][0]:
        id_, _, place = name.split("\n")
        assert place == f"{table.loc[id_, 'ra']:.5f} {table.loc[id_, 'dec']:+.5f}"
    with pytest.raises(ShardError, match="--rgb: there is no band 'z'; allowed: g, i, r"):
        predict(done, survey, out, device="cpu", top=4, rgb=("z", "r", "g"))


def test_splits_with_other_columns_or_types_make_one_table(tmp_path):
    write_catalogue(tmp_path, "train", {"n": np.array([1, 2]), "z": np.array([0.1, np.nan])})
    write_catalogue(tmp_path, "val", {"n": np.array(["a", ""], object)})
    slices = [open_split(tmp_path, name) for name in ("train", "val")]
    columns = columns_of_shards(tmp_path, slices)
    assert [columns.of(split)["n"].to_pylist() for split in slices] == [["1", "2"], ["a", None]]
    assert [columns.of(split)["z"].to_pylist() for split in slices] == [[0.1, None], [None, None]]


def test_the_flags_are_read(done, survey, tmp_path, capsys):
    command = ("predict", done, survey, "--out", tmp_path / "a.csv")
    assert typed(capsys, *command, "--columns", "ra,dec")[0] == 0
    assert list(pd.read_csv(tmp_path / "a.csv").columns)[:3] == ["id", "ra", "dec"]
    code, _, said = typed(capsys, *command, "--rgb", "i,r,g")
    assert code == 2 and "--rgb: names the bands of a sheet" in said
    code, _, said = typed(capsys, *command, "--reading", "{mask_value: -99}")
    assert code == 3 and "is a folder of shards, which are read as packed" in said


def write_files(folder, count=8):
    """A table and stamps of three bands, as .npy."""
    folder.mkdir()
    rows = pd.DataFrame(
        {
            "id_str": [f"J{n}" for n in range(count)],
            "file_loc": [f"{n}.npy" for n in range(count)],
            "object_id": BIG + np.arange(count),
            "ra": 10 + np.arange(count) / 8,
            "note": ["=1+1"] * count,
        }
    )
    for n in range(count):
        np.save(folder / f"{n}.npy", RANDOM.normal(size=SHAPE).astype(np.float32))
    rows.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv", rows


def test_the_catalogue_of_files_stands_beside_their_predictions(done, tmp_path):
    table, rows = write_files(tmp_path / "files")
    how = {"path": "file_loc", "id": "id_str", "bands": ("g", "r", "i")}
    how = Reading(**how, keep=("object_id", "ra", "note"))
    out = tmp_path / "found.parquet"
    predict(done, table, out, device="cpu", reading=how)
    found = pd.read_parquet(out).merge(rows, left_on="id", right_on="id_str", suffixes=("", "_t"))
    assert len(found) == 8 and found["problem"].isna().all()
    for name in ("object_id", "ra", "note"):
        assert (found[name] == found[f"{name}_t"]).all()
    with pytest.raises(ShardError, match=r"bands r, g, i; \S+ has learnt g, r, i in this order"):
        turned = replace(how, bands=("r", "g", "i"))
        predict(done, table, tmp_path / "x.csv", device="cpu", reading=turned)
    with pytest.raises(TableError, match="answers another question"):
        predict(done, table, out, device="cpu", reading=replace(how, mask_value=-99.0))


NOWHERE, BROKEN = 5, 7  # cutouts without a header, and of no pixels


def write_cutouts(folder, count=40):
    """Cutouts of three bands whose headers say where they are, and a table of their positions."""
    table = sky(count)
    for row in table.itertuples():
        cards = header(row.ra, row.dec, name=f"field {row.Index}")
        cards["CRPIX1"] = cards["CRPIX2"] = (SHAPE[-1] + 1) / 2
        image = RANDOM.normal(size=SHAPE).astype(np.float32)
        image = image * 0 if row.Index == BROKEN else image
        write(folder / f"{row.id}.fits", image, cards=None if row.Index == NOWHERE else cards)
    return table


def test_predictions_on_fits_files_join_a_table_by_position_as_those_of_the_packed_set(
    done, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_PIECE", 12)
    table = write_cutouts(tmp_path / "cutouts")
    out, packed = tmp_path / "files.parquet", tmp_path / "packed.parquet"
    predict(done, tmp_path / "cutouts", out, device="cpu", part=1, parts=2)
    assert not out.exists()
    predict(done, tmp_path / "cutouts", out, device="cpu")  # goes on with the rest
    pack(tmp_path / "cutouts", tmp_path / "set", skip_bad=True)
    predict(done, tmp_path / "set", packed, device="cpu")

    found = pd.read_parquet(out)
    assert pq.read_schema(out).names == pq.read_schema(packed).names
    assert list(found.columns)[:4] == ["id", "dec", "object", "ra"]
    assert found["problem"].notna().sum() == 1
    pd.testing.assert_frame_equal(
        found.drop(BROKEN).drop(columns="split").reset_index(drop=True),
        pd.read_parquet(packed).sort_values("id", ignore_index=True).drop(columns="split"),
    )
    assert found.loc[NOWHERE, ["ra", "dec", "object"]].isna().all()
    assert found.loc[BROKEN, "object"] == f"field {BROKEN}"  # where it is, is known all the same

    coordinates = pytest.importorskip("astropy.coordinates")
    known = found.drop(NOWHERE).sample(frac=1, random_state=0)
    ours, theirs = (
        coordinates.SkyCoord(t["ra"].to_numpy(), t["dec"].to_numpy(), unit="deg")
        for t in (known, table)
    )
    index, apart, _ = ours.match_to_catalog_sky(theirs)
    assert apart.arcsec.max() < 1e-3
    assert (table["id"].iloc[index] + ".fits").tolist() == known["id"].tolist()


def test_columns_of_headers_are_chosen_and_those_of_a_catalogue_win(done, tmp_path):
    table = write_cutouts(tmp_path / "cutouts", 6)
    predict(done, tmp_path / "cutouts", tmp_path / "two.csv", device="cpu", columns=("ra", "dec"))
    assert list(pd.read_csv(tmp_path / "two.csv").columns)[:4] == ["id", "ra", "dec", "split"]
    table = table.assign(ra=1.5, path=[f"{id_}.fits" for id_ in table["id"]])
    table.drop(columns="dec").to_csv(tmp_path / "cutouts/t.csv", index=False)
    predict(done, tmp_path / "cutouts/t.csv", tmp_path / "own.parquet", device="cpu",
            reading=Reading(keep=("ra",)))  # fmt: skip
    found = pd.read_parquet(tmp_path / "own.parquet")
    assert (found["ra"] == 1.5).all()
    assert np.allclose(found["dec"][:5], table["dec"][:5]) and found["object"][0] == "field 0"
    np.save(tmp_path / "bare.npy", RANDOM.normal(size=(4, *SHAPE)))
    with pytest.raises(ShardError, match=r"no column 'ra'; it has no catalogue, and no FITS head"):
        predict(done, tmp_path / "bare.npy", tmp_path / "x.csv", device="cpu", columns=("ra",))
