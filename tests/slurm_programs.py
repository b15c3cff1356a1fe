"""Programs of SLURM that stand in for it, and the profile of a site."""

from __future__ import annotations

from pathlib import Path

import yaml


def program(name: str, text: str) -> None:
    """Write a shell script into bin/, which is found before the program of its name."""
    path = Path("bin") / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def profile(**fields: object) -> None:
    """Write the profile of the site that the current folder has."""
    Path("slurm").mkdir(exist_ok=True)
    Path("slurm/profile.yaml").write_text(yaml.safe_dump(fields))
