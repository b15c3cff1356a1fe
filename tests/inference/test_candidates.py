"""Candidates of a search: one run, any purity, and any sky."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import make_job, typed
from made_runs import untrained
from made_shards import write_shards

from deeplense_batch.core.scoring.calibration import log_odds_of
from deeplense_batch.core.scoring.detection import OperatingCurve
from deeplense_batch.data.shards import open_split
from deeplense_batch.inference.candidates import candidates_of
from deeplense_batch.inference.model_card import card
from deeplense_batch.inference.predict import predict
from deeplense_batch.inference.table import TableError
from deeplense_batch.inference.trained import TrainedError, open_trained
from deeplense_batch.models import checkpoint
from deeplense_batch.runs.planning.plan import plan, reopen
from deeplense_batch.runs.training_run import run
from deeplense_batch.training.trainer import BEST

CLASSES = ("nonlens", "lens")


def write(root: Path, split: str, samples: int, seed: int) -> None:
    """Blobs, of which one in eight has a ring: faint ones too, that no network tells apart."""
    random = np.random.default_rng(seed)
    lens = np.arange(samples) % 8 == 0
    y, x = np.mgrid[:24, :24] - 11.5
    blob, ring = 60 * np.exp(-(x**2 + y**2) / 20), np.exp(-((np.hypot(x, y) - 7) ** 2) / 4)
    depth = np.where(lens, random.uniform(0, 16, samples), random.uniform(0, 5, samples))
    counts = random.poisson(blob + 9 + depth[:, None, None] * ring)[:, None].astype(np.uint16)
    write_shards(root, split, counts, lens.astype(int), CLASSES)


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("galaxies")
    write(root, "train", 800, seed=1)
    write(root, "val", 1600, seed=2)
    return root


def search_job(galaxies: Path, **options: float):
    return make_job(
        galaxies,
        task={"name": "detection", "options": options},
        train={"epochs": 3, "batch_size": 32, "balance": "sampler"},
    )


@pytest.fixture(scope="module")
def done(galaxies, tmp_path_factory) -> Path:
    """A finished search, of a balanced sampler."""
    (item,) = plan([search_job(galaxies, purity=0.6)], tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item.run.path


@pytest.fixture
def told(done, galaxies, tmp_path):
    """Predicts on the held-out slice; gives the table, its details, and what was said."""

    def predicted(name: str = "t.parquet", **flags: float):
        report = predict(
            done, galaxies, tmp_path / name, slice_="val[50%:]", device="cpu", **flags
        )
        about = json.loads(pq.read_schema(tmp_path / name).metadata[b"deeplense_batch"])
        return pd.read_parquet(tmp_path / name), about["details"], str(report)

    return predicted


def test_calibrated_scores_sum_to_the_number_of_lenses(told):
    table, details, text = told()
    lenses = (table["label"] == "lens").sum()
    assert lenses == 100 and table["score_lens"].sum() > 1.5 * lenses
    total = table["calibrated_lens"].sum()
    assert abs(total - lenses) < 4 * np.sqrt(lenses)
    assert np.allclose(table["calibrated_lens"] + table["calibrated_nonlens"], 1)
    assert details["calibrated_prevalence"] == 1 / 8 and len(details["slope_and_offset"]) == 2
    assert (
        f"calibrated_lens sums to {total:.1f}, what to expect where class lens is 0.125 of all"
        in text
    )
    assert "--prevalence moves it" in text


def test_one_run_has_a_threshold_for_any_purity(told, done):
    weights = (done / BEST).read_bytes()
    table, details, text = told("default.parquet")
    assert (details["purity"], details["prevalence"]) == (0.6, 0.01)
    found = {}
    for purity in (0.5, 0.9):
        table, details, text = told(f"{purity}.parquet", purity=purity, prevalence=1 / 8)
        threshold = details["threshold"]
        assert table["candidate"].tolist() == (table["score_lens"] >= threshold).tolist()
        count, called = table["candidate"].sum(), table[table["candidate"]]
        assert f"{count} of 800 rows are candidates: score_lens of {threshold:.6g} or" in text
        expected = details["expected"]
        assert expected["purity"] >= purity
        assert expected["completeness_low"] < expected["completeness"]
        assert abs((called["label"] == "lens").mean() - expected["purity"]) < 0.2
        found[purity] = expected["completeness"]
    assert found[0.9] < found[0.5]
    assert (done / BEST).read_bytes() == weights


def test_calibrated_scores_move_to_the_stated_sky(told):
    before, _, _ = told("a.parquet")
    after, details, text = told("b.parquet", prevalence=0.001)
    shift = log_odds_of(0.001) - log_odds_of(1 / 8)
    odds = [np.log(t["calibrated_lens"] / t["calibrated_nonlens"]) for t in (before, after)]
    assert np.allclose(odds[0] + shift, odds[1], atol=1e-6)
    assert (before["score_lens"] == after["score_lens"]).all()
    assert (details["calibrated_prevalence"], details["calibrated_as"]) == (0.001, "stated")
    assert "what to expect where class lens is 0.001 of all, as stated" in text


def test_a_threshold_of_too_few_galaxies_is_told(told):
    _, details, text = told(purity=0.9, prevalence=0.05)
    (note,) = details["notes"]
    assert "this set cannot support that threshold: 700 non-lenses" in note and note in text


def test_a_purity_that_no_threshold_has_leaves_no_candidate(told, monkeypatch):
    monkeypatch.setattr(OperatingCurve, "threshold", lambda *_: None)
    table, details, text = told(purity=0.9)
    assert details["threshold"] is None and details["expected"] == {}
    assert table["candidate"].tolist() == [False] * 800
    assert "no candidates for a purity of 0.9 where class lens is 0.01 of all\n" in text
    (note,) = details["notes"]
    assert re.search(r"none gives a purity of 0\.9 .*; the highest is [\d.]+, at a compl", note)
    assert note.endswith(" of 700 non-lenses") and note in text


def test_the_same_words_in_a_csv_and_again(done, galaxies, tmp_path, capsys):
    words = ("predict", done, galaxies, "--slice=val[:80]", "--device=cpu", "--purity=0.5")
    first = typed(capsys, *words, f"--out={tmp_path / 'a.csv'}")[1].splitlines()
    again = typed(capsys, *words, f"--out={tmp_path / 'a.csv'}")[1].splitlines()
    assert first[2:] == again[1:] and "score_lens of" in first[2] and len(first) >= 5
    table = pd.read_csv(tmp_path / "a.csv")
    assert table["candidate"].dtype == bool
    code, _, error = typed(capsys, *words[:-1], "--purity=0.6", f"--out={tmp_path / 'a.csv'}")
    assert code == 3 and "answers another question (purity is 0.5, asked 0.6)" in error
    with pytest.raises(TableError, match=r"calibrated_at is as validated, asked 0\.3"):
        predict(done, galaxies, tmp_path / "a.csv", slice_="val[:80]", purity=0.5, prevalence=0.3)


def test_an_image_without_a_prediction_is_no_candidate_and_no_other(done, galaxies, tmp_path):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(open_split(galaxies, "val[:3]").images()):
        np.save(tmp_path / "images" / f"{i}.npy", image * (np.nan if i == 1 else 1))
    report = predict(done, tmp_path / "images", tmp_path / "t.parquet", device="cpu")
    assert pd.read_parquet(tmp_path / "t.parquet")["candidate"].isna().tolist() == [0, 1, 0]
    assert " of 3 rows are candidates" in str(report)


def test_another_purity_is_the_same_run(done, galaxies):
    (item,) = plan([search_job(galaxies, purity=0.9, prevalence=0.5)], done.parent.parent)
    assert item.run.path == done and item.run.status().state == "done"
    assert reopen(done).run.path == done


def test_a_run_named_by_an_earlier_version_is_reopened_and_found(done, galaxies, tmp_path):
    job = reopen(done).job
    old = tmp_path / job.name / job.run_name(reopen(done).digest, earlier=True)
    shutil.copytree(done, old)
    assert old.name != done.name and reopen(old).run.path == old
    for purity in (0.6, 0.9):
        (item,) = plan([search_job(galaxies, purity=purity)], tmp_path)
        assert item.run.path == old


def test_a_run_of_an_earlier_version_has_its_threshold_and_no_other(done, galaxies, tmp_path):
    old = tmp_path / done.name
    shutil.copytree(done, old)
    best = checkpoint.load(old / BEST)
    best["task"] = {"temperature": 1.5, "threshold": 0.9}
    checkpoint.save(old / BEST, best)
    out = tmp_path / "t.parquet"
    text = str(predict(old, galaxies, out, slice_="val[:80]", device="cpu"))
    table = pd.read_parquet(out)
    assert table["candidate"].tolist() == (table["score_lens"] >= 0.9).tolist()
    odds = [np.log(table[f"{n}_lens"] / table[f"{n}_nonlens"]) for n in ("score", "calibrated")]
    assert np.allclose(odds[0] / 1.5, odds[1], atol=1e-6)
    assert "calibrated_lens: by a temperature alone" in text and "sums to" not in text
    with pytest.raises(TrainedError, match=r"^--purity: .*left no search .* 'run RUN --force'"):
        candidates_of(open_trained(old), purity=0.9)


def test_a_run_that_searches_for_nothing_has_no_candidates(shards, tmp_path):
    trained = open_trained(untrained(make_job(shards), tmp_path).run.path)
    assert candidates_of(trained) is None
    with pytest.raises(TrainedError, match=r"^--prevalence: the task of .*, classification, sear"):
        candidates_of(trained, prevalence=0.1)


def test_the_card_says_how_scores_become_honest(done):
    trained = open_trained(done)
    slope, _ = trained.task.slope_and_offset
    text = card(trained, {})
    assert f"the log odds of lens (its logit less the other one) times {slope:.6g} plus" in text
    assert "where a share of 0.125 are" in text and "divide the logits" not in text
    found = re.search(r"those of a score of (\S+) or more are candidates", text)
    assert (found is None) == (trained.task.threshold is None)
