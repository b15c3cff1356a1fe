"""A crop of images and one of their inputs cover the same sky, or are refused."""

import pytest
from made_pairs import write_pairs

from deeplense_batch.data.pairs.crops import inputs_crop
from deeplense_batch.data.shards import ShardError, read_splits


@pytest.mark.parametrize(
    ("crop", "kept", "said"),
    [(None, None, None), (8, 4, None), (12, 6, None), (16, 8, None),
     (10, None, "of 16 x 16 pixels do not .* cover 2 x 2 of them; .* such as 8 or 12$"),
     (9, None, "such as 8 or 12$")],
)  # fmt: skip
def test_both_crops_cover_one_sky(tmp_path, crop, kept, said):
    write_pairs(tmp_path, 1)
    info = read_splits(tmp_path)["train"]
    if said is None:
        assert inputs_crop(info, crop) == kept
        return
    with pytest.raises(ShardError, match=said):
        inputs_crop(info, crop)
