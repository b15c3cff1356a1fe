"""The paired stratified bootstrap over test samples, vectorised over resamples."""

from __future__ import annotations

import numpy as np
import pytest
from made_arrays import sample
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    r2_score,
    roc_auc_score,
    roc_curve,
)

from deeplense_batch.core.scoring.calibration import expected_calibration_error
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.statistics import bootstrap as b
from deeplense_batch.report.statistics.bootstrap import interval, sign_p_value


def drawn(strata, resamples=50, seed=0):
    """The resamples as lists of places, for a loop to use."""
    for counts in b._resamples(np.asarray(strata), resamples, seed):
        for column in counts.T:
            yield np.repeat(np.arange(len(column)), column)


@pytest.mark.parametrize("levels", [None, 7])  # seven levels: many ties
def test_every_resample_scores_as_scikit_learn_does(levels):
    targets, scores = sample(levels=levels)
    found = b.bootstrap(
        [b.macro_auc(targets, scores), b.accuracy(targets, scores)], targets, resamples=50
    )
    for (auc, accuracy), places in zip(found.T, drawn(targets), strict=True):
        t, s = targets[places], scores[places]
        expected = np.mean([roc_auc_score(t == k, s[:, k]) for k in range(3)])
        assert auc == pytest.approx(expected, abs=1e-12)
        assert accuracy == pytest.approx(accuracy_score(t, s.argmax(1)), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 9])
def test_resampled_average_precision_is_that_of_scikit_learn(levels):
    targets, scores = sample(2, 60, levels=levels)
    targets[:40] = 0
    positive, lens = targets == 1, scores[:, 1]
    (found,) = b.bootstrap([b.average_precision(positive, lens)], positive, resamples=50)
    for value, places in zip(found, drawn(positive), strict=True):
        expected = average_precision_score(positive[places], lens[places])
        assert value == pytest.approx(expected, abs=1e-12)


def test_a_resampled_calibration_error_is_that_of_the_samples_drawn():
    targets, scores = sample()
    probabilities = softmax(scores)
    (found,) = b.bootstrap([b.calibration_error(targets, probabilities)], targets, resamples=50)
    for value, places in zip(found, drawn(targets), strict=True):
        expected = expected_calibration_error(targets[places], probabilities[places])
        assert value == pytest.approx(expected, abs=1e-12)


def test_resampled_r2_is_that_of_scikit_learn():
    random = np.random.default_rng(1)
    true = random.normal(-22, 0.5, 80)
    predicted = true + random.normal(0, 0.3, 80)
    strata = np.zeros(80, int)
    (found,) = b.bootstrap([b.r2(true, predicted)], strata, resamples=50)
    for value, places in zip(found, drawn(strata), strict=True):
        assert value == pytest.approx(r2_score(true[places], predicted[places]), abs=1e-9)


def test_resamples_keep_the_sizes_of_the_classes_and_repeat_under_their_seed():
    targets = np.array([0] * 5 + [1] * 90 + [2])
    for places in drawn(targets, 30):
        assert np.bincount(targets[places]).tolist() == [5, 90, 1]
    statistic = b.mean_of(np.arange(96))
    again = [b.bootstrap([statistic], targets, resamples=30, seed=s)[0] for s in (3, 3, 4)]
    assert np.array_equal(again[0], again[1]) and not np.array_equal(again[0], again[2])


def test_a_long_slice_comes_in_blocks_and_all_resamples_are_there(monkeypatch):
    monkeypatch.setattr(b, "_CELLS", 1000)
    targets, scores = sample()
    blocks = [*b._resamples(targets, 40, 0)]
    assert [block.shape for block in blocks] == [(120, 8)] * 5
    (found,) = b.bootstrap([b.macro_auc(targets, scores)], targets, resamples=40)
    assert found.shape == (40,)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Scores of two classes one sd apart: the true AUC is Phi(1 / sqrt(2))."""
    truth, inside = 0.7602, 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        targets = np.repeat([0, 1], 100)
        score = random.normal(targets)
        resampled = b.bootstrap(
            [b.macro_auc(targets, np.stack([-score, score], 1))], targets, resamples=400, seed=seed
        )
        low, high = interval(resampled[0])
        inside += low <= truth <= high
    assert 178 <= inside <= 198  # of 200: 95% give 190 +- 3


def test_no_sample_no_bootstrap():
    with pytest.raises(ValueError, match="no sample"):
        b.bootstrap([b.mean_of([])], [])


def test_resamples_in_which_a_score_is_not_defined_are_left_out():
    (found,) = b.bootstrap([b.r2([0.0, 1.0], [0.1, 0.8])], [0, 0], resamples=200)
    assert not np.isfinite(found).all() and np.isfinite(found).any()
    assert np.isfinite(interval(found)).all()


def test_a_p_value_never_claims_more_than_the_resamples_can_tell():
    assert sign_p_value(np.ones(1999)) == pytest.approx(2 / 2000)
    assert sign_p_value(np.zeros(2000)) == 1


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("levels", [None, 7])
def test_recall_at_a_rate_is_that_of_each_resample(rate, levels):
    """One by one, by roc_curve; ties too."""
    targets, scores = sample(2, 60, seed=4, levels=levels)
    positive, ranked = targets == 1, scores[:, 1]
    counts = np.stack([*_drawn(targets, 12), np.ones(len(targets), np.uint16)], axis=1)
    found = b.recall_at(positive, ranked, rate)(counts)
    for column, recall in zip(counts.T, found, strict=True):
        chosen = np.repeat(np.arange(len(targets)), column)
        false, true, _ = roc_curve(positive[chosen], ranked[chosen], drop_intermediate=False)
        assert recall == pytest.approx(true[false <= rate + 1e-12].max())


def test_recall_of_a_search_without_a_fault_is_whole():
    positive = np.arange(500) >= 400
    recall = b.recall_at(positive, np.arange(500.0), 0.0)
    assert recall(np.ones((500, 1), np.uint16)) == 1
    assert b.recall_at(positive, -np.arange(500.0), 0.0)(np.ones((500, 1), np.uint16)) == 0


def _drawn(targets, number):
    """Counts of so many resamples, within classes."""
    random = np.random.default_rng(8)
    for _ in range(number):
        counts = np.zeros(len(targets), np.uint16)
        for kind in np.unique(targets):
            members = np.flatnonzero(targets == kind)
            np.add.at(counts, random.choice(members, len(members)), 1)
        yield counts


def drawn_groups(strata, groups, resamples=50):
    """The resamples of groups as lists of places."""
    for counts in b._resamples(np.asarray(strata), resamples, 0, groups):
        for column in counts.T:
            yield np.repeat(np.arange(len(column)), column)


@pytest.mark.parametrize("levels", [None, 7])
def test_resampled_groups_score_as_scikit_learn_does(levels):
    targets, scores = sample(2, 60, levels=levels)
    groups = np.random.default_rng(5).integers(0, 25, len(targets))
    positive, lens = targets == 1, scores[:, 1]
    statistics = [
        b.macro_auc(targets, scores), b.accuracy(targets, scores), b.mean_of(lens),
        b.average_precision(positive, lens), b.recall_at(positive, lens, 0.1),
    ]  # fmt: skip
    found = b.bootstrap(statistics, targets, groups=groups, resamples=50)
    for values, places in zip(found.T, drawn_groups(targets, groups), strict=True):
        t, s, p, ranked = targets[places], scores[places], positive[places], lens[places]
        rates, recalls, _ = roc_curve(p, ranked, drop_intermediate=False)
        expected = [
            roc_auc_score(p, s[:, 1]) / 2 + roc_auc_score(~p, s[:, 0]) / 2,
            accuracy_score(t, s.argmax(1)), ranked.mean(), average_precision_score(p, ranked),
            recalls[rates <= 0.1 + 1e-12].max(),
        ]  # fmt: skip
        assert values == pytest.approx(expected, abs=1e-12)


def test_groups_are_drawn_whole_and_every_resample_has_every_class():
    targets = np.array([0, 0, 1, 0, 0, 0, 1, 1, 2])
    groups = np.array(["a", "a", "a", "b", "b", "c", "d", "d", "e"])
    lengths = set()
    for places in drawn_groups(targets, groups, 200):
        counts = np.bincount(places, minlength=9)
        assert all(len(set(counts[groups == g].tolist())) == 1 for g in "abcde")
        assert set(targets[places]) == {0, 1, 2}
        lengths.add(len(places))
    assert len(lengths) > 1


def test_a_sample_in_a_group_of_its_own_is_drawn_as_without_groups():
    targets, scores = sample()
    statistic = [b.macro_auc(targets, scores)]
    alone = b.bootstrap(statistic, targets, groups=np.arange(len(targets)), resamples=30)
    assert np.array_equal(alone, b.bootstrap(statistic, targets, resamples=30))


def test_intervals_over_groups_hold_the_truth_where_those_over_images_do_not():
    """Images of a group share most of their noise: 30 groups of 10, of which each has a mean."""
    random = np.random.default_rng(7)
    covered = {"groups": 0, "images": 0}
    groups = np.repeat(np.arange(30), 10)
    for _ in range(100):
        values = random.normal(size=30)[groups] + 0.3 * random.normal(size=300)
        for kind, of in (("groups", groups), ("images", None)):
            (means,) = b.bootstrap(
                [b.mean_of(values)], np.zeros(300, int), groups=of, resamples=200
            )
            low, high = interval(means)
            covered[kind] += low <= 0 <= high
    assert covered["groups"] >= 85 and covered["images"] <= 65


@pytest.mark.parametrize("share", [0.16, 0.5, 0.84])
@pytest.mark.parametrize("levels", [None, 5])
def test_resampled_quantiles_are_those_of_numpy(share, levels):
    values = np.random.default_rng(3).normal(size=50)
    values = values if levels is None else np.round(values * levels) / levels
    strata = np.zeros(50, int)
    (found,) = b.bootstrap([b.quantile_of(values, share)], strata, resamples=50)
    for value, places in zip(found, drawn(strata), strict=True):
        expected = np.quantile(values[places], share, method="averaged_inverted_cdf")
        assert value == pytest.approx(expected, abs=1e-12)


def test_a_statistic_of_some_samples_sees_no_other():
    targets, scores = sample()
    some = np.arange(len(targets)) % 3 > 0
    (found,) = b.bootstrap([b.within(some, b.accuracy(targets[some], scores[some]))], targets,
                           resamples=50)  # fmt: skip
    for value, places in zip(found, drawn(targets), strict=True):
        own = places[some[places]]
        expected = accuracy_score(targets[own], scores[own].argmax(1))
        assert value == pytest.approx(expected, abs=1e-12)
    one = np.arange(len(targets)) == 0
    (found,) = b.bootstrap([b.within(one, b.mean_of([2.0]))], np.zeros(len(targets)))
    assert set(found[np.isfinite(found)]) == {2.0} and np.isnan(found).any()


@pytest.mark.parametrize("levels", [None, 7])
def test_areas_against_the_same_others_are_those_of_each_part_alone(levels):
    random = np.random.default_rng(4)
    kind, scores = random.integers(-1, 3, 300), random.normal(size=300)
    scores = scores if levels is None else np.round(scores * levels / 4)  # with ties
    others, parts = kind == -1, [kind == k for k in range(3)]
    alone = [b.within(p | others, b.auc(p[p | others], scores[p | others])) for p in parts]
    found = b.bootstrap(b.areas(parts, others, scores), kind, resamples=60)
    assert np.array_equal(found, b.bootstrap(alone, kind, resamples=60))
    once = np.ones((300, 1), np.uint32)
    once[parts[1]] = 0
    values = [float(one(once)[0]) for one in b.areas(parts, others, scores)]
    assert np.isnan(values[1]) and np.isfinite([values[0], values[2]]).all()


def test_the_areas_of_two_classes_are_one_where_their_scores_mirror_each_other():
    random = np.random.default_rng(5)
    targets, score = random.integers(0, 2, 200), np.round(random.normal(size=200), 1)
    other = np.where(score > 1, score, -score)  # of high scores neither class has the lower one
    for both in (np.stack([-score, score], 1), np.stack([other, score], 1)):
        areas = [roc_auc_score(targets == k, both[:, k]) for k in (0, 1)]
        (found,) = b.macro_auc(targets, both)(np.ones((200, 1), np.uint16))
        assert found == pytest.approx(np.mean(areas))
    targets[:50] = -1  # of samples without a label the two areas are of other pairs
    areas = [roc_auc_score(targets == k, (-1) ** (1 - k) * score) for k in (0, 1)]
    (found,) = b.macro_auc(targets, np.stack([-score, score], 1))(np.ones((200, 1), np.uint16))
    assert found == pytest.approx(np.mean(areas)) and areas[0] != pytest.approx(areas[1])
