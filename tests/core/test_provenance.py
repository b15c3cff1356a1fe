"""What a result must carry with it: versions, commit, memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from deeplense_batch.core import provenance


@pytest.mark.parametrize("tells", [True, False])
def test_energy_is_that_of_a_gpu_that_tells(monkeypatch, tells):
    class Nvml:
        class NVMLError(Exception):
            pass

        used = 1000

        def nvmlDeviceGetHandleByUUID(self, uuid):
            return uuid

        def nvmlDeviceGetTotalEnergyConsumption(self, handle):
            if not tells:
                raise self.NVMLError("Not Supported")
            self.used += 2500  # millijoules
            return self.used

    monkeypatch.delenv(provenance.SHARED, raising=False)
    monkeypatch.setattr(provenance, "_nvml", Nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid="x"))
    assert provenance.Energy(0).joules() == (2.5 if tells else None)
