"""Mean and sd of a split, from sums over its samples."""

import numpy as np
import pytest

from deeplense_batch.data.pixels.moments import Moments, sums_of


@pytest.mark.parametrize("pairs", [False, True])
def test_sums_of_parts_give_the_moments_of_the_whole(pairs):
    random = np.random.default_rng(0)
    arrays = {
        "images": random.integers(0, 99, (6, 2, 4, 4)).astype(np.uint16),
        "scale": np.array([[3.0, 7.0]] * 6),
    }
    if pairs:
        arrays["inputs"] = random.normal(size=(6, 2, 2, 2)).astype(np.float32)
    moments = Moments()
    for part in (slice(0, 1), slice(1, 6)):
        some = {name: values[part] for name, values in arrays.items()}
        moments.add(some, sums_of(some))
    found, values = moments.attributes(), arrays["images"] / [[[[3.0]], [[7.0]]]]
    assert set(found) == {"mean", "sd", "inputs_mean", "inputs_sd"} if pairs else {"mean", "sd"}
    np.testing.assert_allclose(found["mean"], values.mean((0, 2, 3)))
    np.testing.assert_allclose(found["sd"], values.std((0, 2, 3)))
    if pairs:
        np.testing.assert_allclose(
            found["inputs_mean"], arrays["inputs"].astype(float).mean((0, 2, 3)), atol=1e-12
        )
        np.testing.assert_allclose(
            found["inputs_sd"], arrays["inputs"].astype(float).std((0, 2, 3))
        )
