"""Mixed precision."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.training.precision import Precision, PrecisionError


@pytest.mark.parametrize(
    ("asked", "resolved"), [("off", "off"), ("auto", "off"), ("bf16", "bf16")]
)
def test_precision_on_a_cpu(asked, resolved):
    precision = Precision(asked, torch.device("cpu"))
    assert precision.name == resolved and not precision.scaler.is_enabled()
    with precision.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if resolved == "bf16" else torch.float32)


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(PrecisionError, match=r"train\.amp: fp16 needs a GPU"):
        Precision("fp16", torch.device("cpu"))
