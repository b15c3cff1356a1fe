"""Bulk prediction: every image once, whatever was killed, and however the work was shared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    CLASSES,
    PATIENCE,
    REPOSITORY,
    make_images,
    make_job,
    typed,
    wait_for,
    write_split,
)
from damage import DAMAGES
from PIL import Image
from torch import Tensor

from deeplense_batch.core.job import Simulation
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.scoring import calibration, metrics
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.packing.unpack import unpack
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.writer import ShardWriter
from deeplense_batch.inference import predict as module
from deeplense_batch.inference.images.inputs import open_inputs
from deeplense_batch.inference.predict import predict
from deeplense_batch.inference.table import TableError
from deeplense_batch.inference.trained import TrainedError, open_trained
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.training.precision import PrecisionError

SCORES = [f"score_{name}" for name in CLASSES]
CALIBRATED = [f"calibrated_{name}" for name in CLASSES]


@pytest.fixture(scope="module")
def done(shards, tmp_path_factory) -> Path:
    """A finished run."""
    job = make_job(shards, train={"epochs": 2}, data={"crop": 20, "stretch": "asinh"})
    (item,) = plan([job], tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item.run.path


@pytest.fixture(scope="module")
def table(done, shards, tmp_path_factory) -> pd.DataFrame:
    """Predictions on all shards, by one process in one go."""
    out = tmp_path_factory.mktemp("whole") / "all.parquet"
    predict(done, shards, out, device="cpu")
    return pd.read_parquet(out)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 25)


@pytest.mark.parametrize(("unit", "odd"), [(1.0, 0), (3.0, 0), (60_000.0, 1), (1e-3, 1)])
def test_images_in_another_unit_are_doubted_once(done, shards, tmp_path, caplog, unit, odd):
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(open_split(shards, "val[:40]").images()):
        np.save(folder / f"{i}.npy", image * unit if i > 7 else image * np.nan)
    predict(done, folder, tmp_path / "out.csv", device="cpu", batch_size=8)
    assert caplog.text.count("are they in the same unit?") == odd
    says = "stretched (asinh) and normalised like the training images, these have mean"
    assert caplog.text.count(says) == odd  # not the mean of the values in their files


def test_a_row_a_sample_with_the_scores_of_the_run_itself(done, shards, table):
    assert list(table.columns) == [
        "id", "split", "label", "predicted", *SCORES, *CALIBRATED, "problem",
    ]  # fmt: skip
    assert len(table) == 227 and table["split"].value_counts().to_dict() == {
        "train": 120, "val": 107,
    }  # fmt: skip
    outputs = np.load(done / "outputs.npz")
    rows = table.set_index("id").loc[outputs["ids"]]
    expected = metrics.softmax(outputs["logits"])
    assert np.allclose(rows[SCORES], expected, atol=1e-6)
    assert rows["predicted"].tolist() == [CLASSES[k] for k in expected.argmax(1)]
    assert rows["label"].tolist() == [CLASSES[k] for k in outputs["targets"]]
    assert table["problem"].isna().all()


def test_calibrated_scores_fit_the_validation_slice_better(done, shards, table):
    split = open_split(shards, "val[:50%]")
    rows, targets = table.set_index("id").loc[split.ids()], split.targets()
    nll = [
        -np.log(rows[columns].to_numpy()[np.arange(len(rows)), targets]).mean()
        for columns in (SCORES, CALIBRATED)
    ]
    assert nll[1] < nll[0]
    fitted = json.loads((done / "metrics.json").read_text())["test"]["scores"]["temperature"]
    odds = [
        np.log(rows[columns] / rows[columns[:1]].to_numpy()) for columns in (SCORES, CALIBRATED)
    ]
    assert np.allclose(odds[0] / fitted, odds[1], atol=1e-6)
    assert (rows[CALIBRATED].to_numpy().argmax(1) == rows[SCORES].to_numpy().argmax(1)).all()


def test_the_temperature_of_a_known_answer():
    """Two logits a apart, right with probability q: the odds q / (1 - q) are exp(a / T)."""
    logits = np.tile([3.0, 0.0], (10, 1))
    targets = np.array([0] * 8 + [1] * 2)
    assert calibration.temperature(targets, logits) == pytest.approx(3 / np.log(4), rel=1e-8)
    random = np.random.default_rng(0)
    honest = random.normal(size=(20_000, 3))
    drawn = (metrics.softmax(honest).cumsum(1) > random.random((20_000, 1))).argmax(1)
    assert calibration.temperature(drawn, 2.5 * honest) == pytest.approx(2.5, rel=0.05)
    assert calibration.temperature([0, 0], logits[:2]) == 0.05  # all right: as sure as may be
    assert calibration.temperature([1, 1], logits[:2]) == 20.0


def test_parts_make_the_table_of_one_process(done, shards, tmp_path, small_pieces):
    whole, shared = tmp_path / "whole.parquet", tmp_path / "shared.parquet"
    assert predict(done, shards, whole, device="cpu").missing == 0
    for part in (2, 0):
        report = predict(done, shards, shared, device="cpu", part=part, parts=3)
        assert report.missing and not shared.exists() and "other parts make" in str(report)
    assert predict(done, shards, shared, device="cpu", part=1, parts=3).missing == 0
    assert shared.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.parts")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_whoever_joins_tells_the_problems_of_the_whole_table(done, tmp_path, small_pieces, name):
    folder, out = tmp_path / "images", tmp_path / name
    folder.mkdir()
    for i, image in enumerate(make_images(60, seed=5)[0]):
        np.save(folder / f"{i}.npy", image if i not in (30, 32, 34, 55) else image * np.nan)
    first = predict(done, folder, out, device="cpu", part=0, parts=2)
    assert first.missing and first.done == 35  # images 0 to 24 and 50 to 59
    assert "1 image has no prediction" in str(first)
    last = predict(done, folder, out, device="cpu", part=1, parts=2)
    assert (last.done, last.problems) == (25, 4)
    assert "60 rows\n4 images have no prediction" in str(last)
    assert "4 images have no prediction" in str(predict(done, folder, out, device="cpu"))


_CHILD = """
import sys, time
from deeplense_batch.inference import predict as module
module._PIECE = 25
seen = 0
def on_batch():
    global seen
    seen += 1
    if seen == 4:
        open(sys.argv[4], "w").close()
        time.sleep(600)  # until it is killed
module.predict(*sys.argv[1:4], device="cpu", on_batch=on_batch)
"""


def test_a_killed_prediction_goes_on(done, shards, tmp_path, small_pieces):
    out, mark = tmp_path / "all.parquet", tmp_path / "mark"
    words = [sys.executable, "-c", _CHILD, *map(str, (done, shards, out, mark))]
    child = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    wait_for(mark.exists)
    child.send_signal(signal.SIGKILL)
    child.wait()
    folder = tmp_path / "all.parquet.parts"
    complete = sorted(folder.glob("part-*.parquet"))
    assert len(complete) == 3 and not out.exists()
    (folder / "part-00001.parquet").write_bytes(b"damaged")
    report = predict(done, shards, out, device="cpu")
    assert report.done == 227 - 50 and not folder.exists()
    predict(done, shards, tmp_path / "again.parquet", device="cpu")
    assert out.read_bytes() == (tmp_path / "again.parquet").read_bytes()


def test_half_precision_is_another_answer_near_the_first(done, shards, table, tmp_path):
    out = tmp_path / "bf16.parquet"
    predict(done, shards, out, device="cpu", amp="bf16")
    rounded = pd.read_parquet(out)
    assert (rounded["id"] == table["id"]).all()
    apart = (rounded[SCORES] - table[SCORES]).abs().to_numpy()
    assert 0 < apart.max() < 0.1
    with pytest.raises(TableError, match="answers another question"):
        predict(done, shards, out, device="cpu")
    with pytest.raises(PrecisionError, match=r"^--amp: fp16 needs a GPU"):
        predict(done, shards, tmp_path / "fp16.parquet", device="cpu", amp="fp16")


def test_where_memory_runs_out_fewer_images_go_at_once(
    done, shards, table, tmp_path, monkeypatch, caplog
):
    real = Classification.predict

    def hungry(task, model, batch):
        if len(batch.images) > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(task, model, batch)

    monkeypatch.setattr(Classification, "predict", hungry)
    out = tmp_path / "few.parquet"
    predict(done, shards, out, device="cpu")
    again = pd.read_parquet(out)
    assert np.allclose(again[SCORES], table[SCORES], atol=1e-6)
    assert "samples at a time from here on" in caplog.text


def test_files_come_to_a_device_as_they_do_to_a_cpu(done, shards, tmp_path, monkeypatch):
    """By threads and in whole batches, where it is a GPU: a device that only passes for one."""
    unpack(shards, tmp_path / "images")
    run = open_trained(done)
    with open_inputs(tmp_path / "images", "", run.shape) as inputs:
        piece = inputs.pieces(50)[0]
        cpu = torch.device("cpu")
        whole = [b.images for b in inputs.batches(piece, run.transform, cpu, size=8)]
        other = torch.device("meta")
        monkeypatch.setattr(Tensor, "to", lambda self, *_, **__: self)
        sent = [b.images for b in inputs.batches(piece, run.transform, other, size=8)]
    assert [len(images) for images in sent] == [len(images) for images in whole]
    assert all(torch.equal(a, b) for a, b in zip(whole, sent, strict=True))


def test_csv_says_the_same(done, shards, table, tmp_path):
    out = tmp_path / "all.csv"
    predict(done, shards, out, device="cpu")
    pd.testing.assert_frame_equal(pd.read_csv(out), table, check_dtype=False)
    assert "already there" in str(predict(done, shards, out, device="cpu"))


def test_an_answer_is_never_overwritten(done, shards, tmp_path):
    out = tmp_path / "a.parquet"
    predict(done, shards, out, device="cpu", slice_="val[:10]")
    before = out.stat().st_mtime_ns
    assert predict(done, shards, out, device="cpu", slice_="val[:10]").done == 0
    with pytest.raises(TableError, match="slice is val\\[:10\\], asked val\\[:11\\]"):
        predict(done, shards, out, device="cpu", slice_="val[:11]")
    assert out.stat().st_mtime_ns == before
    other = tmp_path / "b.csv"
    other.write_text("mine")
    with pytest.raises(TableError, match="no answer of 'predict'"):
        predict(done, shards, other, device="cpu")
    assert other.read_text() == "mine"


def test_every_row_of_a_table_is_a_row_of_the_answer(done, tmp_path, small_pieces):
    for i, image in enumerate(make_images(60, seed=5)[0]):
        np.save(tmp_path / f"{i}.npy", image)
    table = pd.DataFrame({"id": [f"J{i}" for i in range(60)], "label": ["a", "b"] * 30})
    table["path"] = [f"{i}.npy" for i in range(60)]
    table["split"] = ["train", "test"] * 30
    table.loc[[3, 4], "split"] = ["holdout", ""]
    table.loc[7, "label"] = "c"
    table.loc[[8, 9], "path"] = ["gone.npy", ""]
    table.to_csv(tmp_path / "t.csv", index=False)
    reading = Reading(classes=("a", "b"))
    report = predict(done, tmp_path / "t.csv", tmp_path / "o.csv", device="cpu", reading=reading)
    predict(done, tmp_path, tmp_path / "images.csv", device="cpu")
    assert (report.samples, report.problems) == (60, 2)
    found = pd.read_csv(tmp_path / "o.csv").merge(table, on="id", validate="one_to_one")
    images = pd.read_csv(tmp_path / "images.csv").set_index("id")
    assert len(found) == 60
    has_image = found["problem"].isna()
    expected = images.loc[found["path"][has_image], SCORES]
    assert np.allclose(found.loc[has_image, SCORES], expected, atol=1e-6)
    found = found.set_index("id")
    assert found["problem"].dropna().to_dict() == {
        "J8": "there is no such file", "J9": "no file is named",
    }  # fmt: skip
    assert found["label_x"][["J3", "J4"]].tolist() == ["b", "a"] and found["label_x"].isna()["J7"]


def test_an_answer_for_a_table_that_was_mended_is_another_one(done, tmp_path):
    for i, image in enumerate(make_images(8, seed=5)[0]):
        np.save(tmp_path / f"{i}.npy", image)

    def scores(order, name):
        rows = [f"J{i},{file}.npy\n" for i, file in enumerate(order)]
        (tmp_path / "t.csv").write_text("".join(["id,path\n", *rows]))
        predict(done, tmp_path / "t.csv", tmp_path / name, device="cpu")
        return pd.read_parquet(tmp_path / name).set_index("id")[SCORES].sort_index().to_numpy()

    first = scores("01234567", "a.parquet")
    with pytest.raises(TableError, match="answers another question"):
        scores("10234567", "a.parquet")
    assert np.allclose(scores("10234567", "b.parquet"), first[[1, 0, 2, 3, 4, 5, 6, 7]])


def test_files_give_what_shards_of_them_give(done, shards, table, tmp_path):
    unpack(shards, tmp_path / "files")
    unpack(shards, tmp_path / "files.zip")
    wanted = table.assign(id=table["id"].str.removeprefix("train/").str.removeprefix("val/"))
    for source in ("files", "files.zip"):
        out = tmp_path / f"{source}.parquet"
        predict(done, tmp_path / source, out, device="cpu", batch_size=50)
        found = pd.read_parquet(out)
        found["id"] = found["id"].str.extract(r"(\d+)\.npy$")[0]
        pairs = wanted.merge(found, on=["id", "split"], suffixes=("", "_"))
        assert len(pairs) == 227
        for name in (*SCORES, *CALIBRATED):
            assert np.allclose(pairs[name], pairs[f"{name}_"], atol=1e-5)


def test_unlabelled_images_and_bad_ones(done, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    counts, _ = make_images(40, seed=5)
    for i, image in enumerate(counts):
        np.save(folder / f"{i}.npy", image[0])
    np.save(folder / "3.npy", np.full((24, 24), np.nan))
    np.save(folder / "7.npy", counts[7, 0, :18])
    Image.fromarray(counts[8, 0].astype(np.uint8)).save(folder / "8.png")
    (folder / "9.jpg").write_bytes(b"a picture")
    out = tmp_path / "out.parquet"
    report = predict(done, folder, out, device="cpu")
    assert "1 file ignored, no image: 9.jpg" in str(report)
    assert report.problems == 2 and "2 images have no prediction" in str(report)
    found = pd.read_parquet(out).set_index("id")
    assert len(found) == 41 and found["split"].isna().all() and found["label"].isna().all()
    assert found.index[:10].tolist() == [f"{i}.npy" for i in range(9)] + ["8.png"]
    assert found.loc["3.npy", "problem"] == "576 of 576 pixels are NaN or infinite"
    assert found.loc["7.npy", "problem"].startswith("has images of 1 x 18 x 24")
    bad = found["problem"].notna()
    assert bad.sum() == 2 and found.loc[bad, SCORES].isna().all(axis=None)
    assert np.allclose(found.loc[~bad, SCORES].sum(axis=1), 1)
    assert np.allclose(found.loc["8.npy", SCORES].tolist(), found.loc["8.png", SCORES].tolist())


def test_a_set_in_one_file_has_its_splits(done, tmp_path):
    images, targets = make_images(30, seed=6)
    np.savez(tmp_path / "test.npz", images=images[:, 0], labels=targets, classes=CLASSES)
    out = tmp_path / "out.parquet"
    predict(done, tmp_path / "test.npz", out, device="cpu")
    found = pd.read_parquet(out)
    assert set(found["split"]) == {"test"} and found["label"][:3].tolist() == list(CLASSES)


def test_a_run_predicts_calibrated_without_its_data(done, shards, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    text = (copy / "job.yaml").read_text()
    (copy / "job.yaml").write_text(text.replace(str(shards), str(tmp_path / "gone")))
    out = tmp_path / "out.parquet"
    predict(copy, shards, out, device="cpu", slice_="val[:9]")
    assert set(CALIBRATED) <= set(pd.read_parquet(out).columns)
    write_split(tmp_path / "gone", "train", 30, seed=9)
    with pytest.raises(ShardError, match="holds other data than those of"):
        open_trained(copy).slice("valid")


def test_a_sheet_of_the_highest_scores(done, shards, tmp_path):
    out = tmp_path / "out.parquet"
    report = predict(done, shards, out, device="cpu", top=12, of="sphere")
    with Image.open(report.sheet) as sheet:
        assert report.sheet == tmp_path / "out.png" and sheet.width > 1500
    again = predict(done, shards, out, device="cpu", top=12)
    assert again.sheet is None and again.done == 0


def test_what_cannot_be_is_refused(done, shards, tmp_path):
    out = tmp_path / "out.parquet"
    with pytest.raises(TrainedError, match="is no run directory"):
        predict(shards, shards, out)
    made = RunDir.create(tmp_path / "new", make_job(shards).to_yaml())
    with pytest.raises(TrainedError, match="is planned, not done"):
        predict(made.path, shards, out)
    simulation = Simulation.model_validate({"name": "s", "simulate": {"out": "x"}})
    made = RunDir.create(tmp_path / "simulation", simulation.to_yaml())
    with pytest.raises(TrainedError, match="there is no network in it"):
        predict(made.path, shards, out)
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    (copy / "best.pt").unlink()
    with pytest.raises(TrainedError, match=r"has no best\.pt"):
        predict(copy, shards, out)
    with pytest.raises(TrainedError, match="no class 'spere'; did you mean 'sphere'"):
        predict(done, shards, out, top=3, of="spere")
    with pytest.raises(ShardError, match="is no folder of shards"):
        predict(done, tmp_path, out, slice_="val")
    with zipfile.ZipFile(tmp_path / "wide.zip", "w") as archive:
        np.save(tmp_path / "w.npy", np.random.default_rng(0).random((3, 24, 24)))
        archive.write(tmp_path / "w.npy", "w.npy")
    wrong = r"w.npy has images of 3 x 24 x 24 \(.*\), this network takes 1 x 24 x 24"
    with pytest.raises(ShardError, match=wrong):
        predict(done, tmp_path / "wide.zip", out)
    assert not out.exists() and not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [],
            "--out is missing, the table that is made, .parquet or .csv; of a run that restores",
        ),
        (["--out="], "--out: expected a path (an unset variable?), got ''"),
        (["--out", "a.txt"], "got 'a.txt'"),
        (["--out", "a.csv", "--part", "2", "--parts", "2"], "2 of 2 parts; they count from 0"),
        (["--out", "a.csv", "--of", "no"], "--top N asks for one"),
        (["--out", "a.csv", "--prats", "2"], "did you mean '--parts'"),
    ],
)
def test_words_that_are_no_command(words, says, capsys):
    code, shown, error = typed(capsys, "predict", "run", "data", *words)
    assert (code, shown) == (2, "") and says in error


def test_the_verb_tells_its_rate_beside_the_bare_model(done, shards, tmp_path, capsys):
    code, shown, _ = typed(
        capsys, "predict", done, shards, "--out", tmp_path / "a.csv", "--device=cpu"
    )
    assert code == 0 and "227 images in" in shown and "the network alone" in shown
    assert "227 rows" in shown


_MEMORY = """
import resource, sys
from deeplense_batch.inference import predict as module
module._PIECE = 256
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
run, data, out = sys.argv[1:]
module.predict(run, data, out + "/a.parquet", device="cpu", slice_="train[:600]", batch_size=64)
before = peak()
module.predict(run, data, out + "/b.parquet", device="cpu", slice_="train", batch_size=64)
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_images(done, tmp_path):
    """24,000 images, forty times as many: 55 MB as the floats that a network sees."""
    images, targets = make_images(600, seed=3)
    with ShardWriter(
        tmp_path / "many", split="train", shape=(1, 24, 24), stored=np.dtype(np.uint16),
        dtype=np.dtype(np.float64), classes=CLASSES, source="tests", seed=0, shard_size=6000,
    ) as writer:  # fmt: skip
        for i in range(40):
            writer.append(
                images, targets=targets, ids=[f"{i}/{n}" for n in range(600)],
                scale=images.max((2, 3)).astype(np.float64),
            )  # fmt: skip
        writer.publish()
    answer = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(done), str(tmp_path / "many"), str(tmp_path)],
        capture_output=True, text=True, timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert float(answer.stdout) < 12, f"{answer.stdout} MB more"


def test_a_run_that_learnt_a_number_predicts_it(tmp_path):
    simulate("substructure", tmp_path / "data", preset="varied", images=60, size=50, seed=1)
    task = {"name": "regression", "options": {"target": "theta_e", "log10": False}}
    data = {"train": "train", "valid": "val[:50%]", "test": "val[50%:]"}
    job = make_job(tmp_path / "data", task=task, train={"epochs": 1}, data=data)
    (item,) = plan([job], tmp_path / "runs")
    run(item, device="cpu")
    out = tmp_path / "out.parquet"
    predict(item.run.path, tmp_path / "data", out, device="cpu", slice_="val[50%:]")
    rows = pd.read_parquet(out).set_index("id")
    assert list(rows.columns) == ["split", "label", "theta_e", "problem"]
    outputs = np.load(item.run.path / "outputs.npz")
    assert np.allclose(rows["theta_e"].loc[outputs["ids"]], outputs["predicted"], atol=1e-5)
    with pytest.raises(TrainedError, match="tells no classes apart"):
        predict(item.run.path, tmp_path / "data", tmp_path / "o.csv", device="cpu", top=3)


@pytest.mark.parametrize("first", ["small", "damaged"])
def test_an_image_of_another_size_is_a_row_wherever_it_stands(done, tmp_path, first):
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(make_images(9, seed=5)[0]):
        np.save(folder / f"{i}.npy", image if i not in (0, 1, 8) else image[:, :18, :18])
    if first == "damaged":
        (folder / "0.npy").write_bytes(b"no image")
    predict(done, folder, tmp_path / "out.csv", device="cpu")
    problem = pd.read_csv(tmp_path / "out.csv")["problem"]
    assert problem.notna().tolist() == [True, True, *[False] * 6, True]
    assert problem[0].startswith("has images of 1 x 18 x 18") == (first == "small")
    assert problem[8].startswith("has images of 1 x 18 x 18 (channels x height x width), this net")


def test_a_folder_most_of_whose_images_have_another_size_is_refused(done, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(make_images(250, seed=5)[0]):
        np.save(folder / f"{i}.npy", image if i < 40 else image[:, :18, :18])
    with pytest.raises(ShardError, match=r"42.npy has images of 1 x 18 x 18 .* so do 70 of 84"):
        predict(done, folder, tmp_path / "out.csv", device="cpu")


def test_bands_in_files_are_rows_of_objects(done, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        for band in "gr":
            np.save(folder / f"{i}_{band}.npy", make_images(1, seed=i)[0][0, 0])
    with pytest.raises(ShardError, match=r"0.npy has images of 2 x 24 x 24"):
        predict(done, folder, tmp_path / "out.csv", device="cpu")


@pytest.mark.parametrize("how", ["pipe", "dangling link", "folder"])
def test_what_is_no_file_is_no_place_for_a_table(done, shards, tmp_path, capsys, how):
    DAMAGES[how](tmp_path / "p.csv")
    words = ("predict", done, shards, "--device=cpu", "--slice=val[:3]")
    code, _, errors = typed(capsys, *words, f"--out={tmp_path / 'p.csv'}")
    fault = "is a link to nothing" if how == "dangling link" else "is no file"
    assert code == 3 and f"{tmp_path}/p.csv: {fault}; name another file" in errors
