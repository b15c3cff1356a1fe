"""A model as it lies on the Hugging Face hub, without one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from timm.models import save_for_hf
from torch import nn

HUB_NAME = "hf_hub:mwalmsley/zoobot-encoder-tiny"


def shelf(folder: Path, monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> list[tuple]:
    """Put the files of a model, as timm pushes them to the hub, where a download finds them.

    Returns:
        What is then asked for: repository and revision.
    """
    save_for_hf(model, folder / "hub", safe_serialization=True)
    asked: list[tuple] = []

    def download(repo_id: str, filename: str, revision: str | None = None, **_: object) -> str:
        asked.append((repo_id, revision))
        return shutil.copy(folder / "hub" / filename, folder)

    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    return asked
