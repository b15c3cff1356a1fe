"""Scores by how visible substructure is, and the interval of an AUC."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.by_detectability import draw, score, unknown_classes


def made(n: int = 900, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, logits and delta chi^2 of a network that sees what is above the noise."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, n)
    delta_chi2 = np.where(targets == 0, 0.0, 10 ** random.uniform(0, 3.5, n))
    logits = random.normal(0, 1, (n, 3))
    logits[np.arange(n), targets] += np.log1p(delta_chi2 / 30)
    return targets, logits, delta_chi2


class TestScore:
    def test_bins_are_those_of_the_images(self):
        targets, logits, delta_chi2 = made()
        found = score(targets, logits, delta_chi2)
        assert found["without"] == int((targets == 0).sum())
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        edges = [0, 10, 30, 100, 300, np.inf]
        for one, low, high in zip(found["bins"], edges[:-1], edges[1:], strict=True):
            here = (targets > 0) & (delta_chi2 >= low) & (delta_chi2 < high)
            assert one["images"] == here.sum() and one["from"] == low
            used = here | (targets == 0)
            assert one["auc"] == pytest.approx(roc_auc_score(here[used], 1 - p[used, 0]))
            assert one["recall"] == (logits.argmax(1) == targets)[here].mean()
            for name in ("auc", "recall"):
                assert one[f"{name}_interval"][0] < one[name] < one[f"{name}_interval"][1]
        assert found["bins"][-1]["to"] is None
        assert json.loads(json.dumps(found)) == found
        aucs = [one["auc"] for one in found["bins"]]
        assert aucs == sorted(aucs)

    def test_unknown_images_and_classes_count_nowhere(self):
        targets, logits, delta_chi2 = made()
        more = np.concatenate([delta_chi2, [50.0, np.nan]])
        again = score([*targets, -1, 1], np.vstack([logits, logits[:2]]), more)
        assert again == score(targets, logits, delta_chi2)

    def test_a_class_that_has_substructure_has_it_also_where_it_is_nothing(self):
        found = score([0, 0, 1, 1, 2], np.eye(3)[[0, 0, 1, 1, 2]], [0, 0, 0.0, 40.0, 500.0])
        assert found["without"] == 2
        assert [one["images"] for one in found["bins"]] == [1, 0, 1, 0, 1]
        empty = found["bins"][1]
        assert empty["auc"] is None and empty["recall_interval"] is None
        assert found["bins"][0]["auc"] == 1 and found["bins"][0]["auc_interval"][1] == 1

    def test_a_network_that_is_sure_loses_no_digit(self):
        logits = np.array([[900.0, 0, 0], [800.0, 0, 0], [800.0, 0, 10.0]])
        assert score([0, 1, 2], logits, [0, 500, 500])["bins"][-1]["auc"] == 1

    @pytest.mark.parametrize("missing", [0, 2])
    def test_a_class_of_which_nothing_is_known_is_evidence_of_nothing(self, missing):
        """Whether its images have substructure or not, its probability would count as one."""
        targets, logits, delta_chi2 = made()
        unknown = np.where(targets == missing, np.nan, delta_chi2)
        assert unknown_classes(targets, 3, unknown) == [missing]
        assert score(targets, logits, unknown) is None
        one = np.flatnonzero(targets == missing)[0]
        unknown[one] = delta_chi2[one]
        assert unknown_classes(targets, 3, unknown) == []
        assert score(targets, logits, unknown) is not None

    def test_a_class_without_an_image_is_unknown_too(self):
        targets, logits, delta_chi2 = made()
        assert unknown_classes([0, 1, -1], 3, [0, 40, 50]) == [2]
        some = targets != 2
        assert score(targets[some], logits[some], delta_chi2[some]) is None

    @pytest.mark.parametrize("delta_chi2", ([0, 0, 0], [5, 5, 5], [np.nan] * 3))
    def test_without_both_kinds_there_is_none(self, delta_chi2):
        assert score([0, 1, 2], np.eye(3), delta_chi2) is None


def test_figure_names_bins_and_images():
    figure = draw(score(*made()))
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels[0].startswith("0 to 10\n") and labels[-1].startswith("above 300\n")
    assert all(text.endswith("images") for text in labels)
    draw(score([0, 1], np.eye(2), [0, 40]))  # bins without images
