"""Comparisons of equal models, made up; run as a program, the table of docs/report.md."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.report.statistics.variance import Components, SampleNoise

SEEDS = (2, 3, 5, 10)
RATIOS = (0.3, 1.0, 2.0)  # sd of the seeds, over that of a paired difference by the test sample


def simulated(
    models: int, seeds: int, ratio: float, times: int, difference: float = 0.0
) -> tuple[NDArray[np.float64], float]:
    """Differences to the best of models, `times` over: p-values, and whether intervals cover.

    The test sample moves a difference by an sd of 1; scores of a model are spread over its seeds.
    """
    random = np.random.default_rng(int(100 * ratio) + 1000 * seeds + 7 * models)
    private = 0.2 * ratio**2  # of the spread over seeds
    noise = SampleNoise(np.eye(models) * (0.5 + private / seeds), np.full(models, private))
    p_values, covered = [], []
    for _ in range(times):
        centres = random.normal(0, np.sqrt(0.5), models)
        centres[1:] -= difference
        scores = centres[:, None] + random.normal(0, ratio, (models, seeds))
        found = Components(list(scores), noise).differences()
        p_values.append(found.p_value[1:])
        covered.append(np.abs(found.value[1:] + difference) <= found.half[1:])
    return np.stack(p_values), np.mean(covered)


if __name__ == "__main__":
    print("| models | seeds | " + " | ".join(f"ratio {ratio:g}" for ratio in RATIOS) + " |")
    print("|---" * (2 + len(RATIOS)) + "|")
    for models, times in ((3, 6000), (13, 1500), (60, 500)):
        for seeds in SEEDS:
            cells = []
            for ratio in RATIOS:
                p_values, coverage = simulated(models, seeds, ratio, times)
                cells.append(f"{(p_values < 0.05).mean():.3f}, {coverage:.3f}")
            print(f"| {models} | {seeds} | {' | '.join(cells)} |")
