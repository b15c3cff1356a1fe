"""What a user may say of files is checked before one is read."""

import pytest

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError


def test_a_mask_value_is_a_number(tmp_path):
    with pytest.raises(ShardError, match=r"^mask_value: got 'none'; it is a number$"):
        pack(tmp_path, tmp_path / "out", mask_value="none")
