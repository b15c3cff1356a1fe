"""A set of images made shard by shard, by any number of processes, and joined when all are there.

Its images come from an `ImageGenerator`: a simulation, or a network that draws. Open `dataset`
first (how a set is made), then `generator` (what a new kind of images has to say).
"""

from deeplense_batch.data.generate.dataset import GenerateReport, generate_dataset
from deeplense_batch.data.generate.generator import (
    GeneratedBatch,
    ImageGenerator,
    StreamingGenerator,
    check_images,
    made_in_order,
)

__all__ = [
    "GenerateReport",
    "GeneratedBatch",
    "ImageGenerator",
    "StreamingGenerator",
    "check_images",
    "generate_dataset",
    "made_in_order",
]
