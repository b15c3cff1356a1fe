"""Mixed precision."""

from __future__ import annotations

import os
import warnings

import pytest
import torch

from deeplense_batch.training.precision import Precision, PrecisionError, choose_kernels


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


@pytest.mark.parametrize(("has_bf16", "name"), [(True, "bf16"), (False, "fp16")])
def test_auto_takes_what_a_gpu_has(monkeypatch, has_bf16, name):
    """A V100 has fp16 alone."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    cuda = torch.device("cuda", 0)
    with warnings.catch_warnings(action="ignore"):  # no GPU is here
        assert Precision("auto", cuda).name == name
        if not has_bf16:
            with pytest.raises(PrecisionError, match="this GPU has no bf16; it has off, fp16"):
                Precision("bf16", cuda)


@pytest.mark.parametrize("deterministic", [True, False])
def test_kernels_of_a_gpu_are_the_fastest_or_the_same_each_time(monkeypatch, deterministic):
    """For one run: what is done after it in this process has its own."""
    said, cudnn = [], torch.backends.cudnn
    monkeypatch.setattr(torch, "use_deterministic_algorithms", said.append)
    for name in ("deterministic", "benchmark"):
        monkeypatch.setattr(cudnn, name, deterministic)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with choose_kernels(torch.device("cpu"), deterministic=deterministic):
        assert not said and cudnn.benchmark is deterministic
    with choose_kernels(torch.device("cuda", 0), deterministic=deterministic):
        assert said == [deterministic] == [cudnn.deterministic]
        assert cudnn.benchmark is not deterministic
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic
    assert said == [deterministic, False]
    assert cudnn.deterministic is deterministic is cudnn.benchmark


def test_an_operation_without_a_deterministic_form_is_named(monkeypatch):
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda asked: None)
    gpu = torch.device("cuda", 0)
    said = (
        "upsample_bilinear2d_backward_out_cuda does not have a deterministic implementation, but "
        "you set 'torch.use_deterministic_algorithms(True)'."
    )
    with (
        pytest.raises(PrecisionError, match=r"^engine\.deterministic: upsample_bilinear2d_back"),
        choose_kernels(gpu, deterministic=True),
    ):
        raise RuntimeError(said)
    with (
        pytest.raises(RuntimeError, match="out of order"),
        choose_kernels(gpu, deterministic=True),
    ):
        raise RuntimeError("out of order")
