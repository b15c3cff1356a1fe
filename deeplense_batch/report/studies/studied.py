"""What the studies find in one comparison: the runs of a model as one, and scores by a quantity.

Comparisons that rank nothing are studied too: those of evaluations of one model, whose scores a
matrix shows (`transfer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.run_table import Row
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.studies.block import Block
from deeplense_batch.report.studies.ensembles import ensembles
from deeplense_batch.report.studies.ensembles_block import ensembles_block
from deeplense_batch.report.studies.gains.pretraining import gains, pretraining_blocks
from deeplense_batch.report.studies.restoration import restoration_blocks, restored
from deeplense_batch.report.studies.selection.page import selection_blocks
from deeplense_batch.report.studies.selection.study import Wanted, study
from deeplense_batch.report.studies.transfer import InMatrix

__all__ = ["studied", "studied_in_matrices"]


def studied(
    number: int, models: Sequence[ModelRuns], resamples: Resamples, wanted: Sequence[Wanted]
) -> tuple[Row, list[Block]]:
    """Study a comparison.

    Arguments:
        number: Of the comparison, which tells its figures from those of others.
        models: Of the comparison, the best first.
        resamples: Of their runs.
        wanted: Quantities of the test images.

    Returns:
        ``ensembles``, ``pretraining`` and ``by``, and of restored images ``restored``, as
        `results.json` holds them, and what a page shows of them.
    """
    averaged, lacking = ensembles(models, resamples)
    pretrained = gains(models, resamples)
    by = study(models, wanted) if wanted else {}
    images = restored(models, resamples)
    blocks = restoration_blocks(images)
    blocks += pretraining_blocks(number, models[0].monitor, pretrained)
    blocks += ensembles_block(number, models[0].monitor, averaged, lacking)
    numbers: Row = {"ensembles": averaged, "pretraining": pretrained, "by": by}
    if images:
        numbers["restored"] = images
    return numbers, blocks + selection_blocks(number, by)


def studied_in_matrices(
    comparisons: Sequence[InMatrix], first: int, wanted: Sequence[Wanted]
) -> tuple[list[Row], list[Block]]:
    """Study comparisons that have no section; their blocks say themselves what they are of.

    Arguments:
        comparisons: Each with its cell of a matrix.
        first: Number of the first of them, as if it had a section; the others follow.
        wanted: Quantities of the test images.

    Returns:
        ``studies``, as `results.json` holds them, and what a page shows of them.
    """
    studies: list[Row] = []
    blocks: list[Block] = []
    for number, one in enumerate(comparisons, start=first):
        numbers, own = studied(number, one.models, Resamples.of(one.models), wanted)
        cell = {"model": one.model, "training": one.training, "test": one.test}
        studies.append({"number": number, **cell, **numbers})
        of = f"{one.model}, trained on {one.training}, tested on {one.test}"
        blocks += [replace(block, title=f"{block.title}: {of}") for block in own]
    return studies, blocks
