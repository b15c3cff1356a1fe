"""What is measured of each restored image."""

from __future__ import annotations

import numpy as np

from deeplense_batch.report.statistics.measured import all_end_to_end, end_to_end, measured_of


def test_gains_are_over_the_fitted_image_against_the_same_truth():
    found = measured_of(
        {
            "psnr": np.array([40.0, 41.0]),
            "psnr_fitted": np.array([39.0, 41.5]),
            "psnr_clean": np.array([44.0, 45.0]),
            "psnr_fitted_clean": np.array([42.0, 42.0]),
            "ring_truth": np.zeros(2),
            "ids": np.array(["a", "b"]),
        }
    )
    assert found["gain"].tolist() == [1.0, -0.5] and found["gain_clean"].tolist() == [2.0, 3.0]
    assert {"ring_truth", "ids"}.isdisjoint(found)
    assert "gain" not in measured_of({"psnr": np.ones(2)})


def test_parts_of_a_split_are_joined_in_its_order_where_all_have_them():
    parts = [{"psnr": np.array([1.0, 2.0]), "ssim": np.ones(2)}, {"psnr": np.array([3.0])}]
    joined = all_end_to_end(parts, np.array([2, 0, 1]))
    assert {name: values.tolist() for name, values in joined.items()} == {"psnr": [3.0, 1.0, 2.0]}
    assert all_end_to_end([parts[0], None], np.arange(2)) is None
    arrays = [np.array([[1.0], [2.0]]), np.array([[3.0]])]
    assert end_to_end(arrays, np.array([2, 0, 1])).tolist() == [[3.0], [1.0], [2.0]]
    assert end_to_end([arrays[0], None], np.arange(2)) is None
