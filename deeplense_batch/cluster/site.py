"""The site's profile: partition, account, modules and whatever else one cluster wants.

It is ``slurm/profile.yaml`` in the current folder, or the file that ``DEEPLENSE_PROFILE`` names.
Without a profile, SLURM's own defaults hold. Recipes say what a run needs and name no site.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from deeplense_batch.core import yaml_text
from deeplense_batch.core.job import JobError
from deeplense_batch.core.recipe import first_fault

__all__ = ["Profile", "load_profile"]

_DEFAULT = "slurm/profile.yaml"
# Options of sbatch that `submit` sets, or that would keep an array from running as written.
_RESERVED = ("array", "parsable", "test-only", "wait", "wrap")


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("should be one line of text")
    return text


def _option(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ValueError(
            f"{name!r} is not the name of an option; expected letters, digits and dashes, as in "
            "mail-type"
        )
    if name in _RESERVED:
        raise ValueError(f"{name} is set by 'submit'; allowed are all but {', '.join(_RESERVED)}")
    return name


Line = Annotated[str, AfterValidator(_one_line)]
Option = Annotated[str, AfterValidator(_option)]


class Profile(BaseModel):
    """What a site wants. The shell runs ``modules`` and ``setup``; other values are quoted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    exclude: Line | None = None  # nodes not to use
    sbatch: dict[Option, Line | int | bool] = {}  # other options, without their dashes
    modules: list[Line] = []
    setup: list[Line] = []  # shell lines, before anything else
    srun_args: list[Line] = []
    container: list[Line] = []  # command that starts a container, in front of the program
    python: Line | None = None  # default: the one running now, or python3 in a container
    hold: list[Line] = [
        "env",
        "--block-signal=USR2,TERM",
    ]  # signals wait for a handler
    warn_seconds: int = Field(120, ge=1)  # before the time limit, to save
    requeues: int = Field(20, ge=0)
    gpu_hour_price: float | None = Field(None, ge=0)
    currency: Line = "EUR"

    @property
    def command(self) -> list[str]:
        """The words that start the program on a node."""
        python = self.python or ("python3" if self.container else sys.executable)
        return [*self.container, python, "-u", "-m", "deeplense_batch"]


def load_profile(path: Path | str | None = None) -> Profile:
    """Read the site's profile.

    Arguments:
        path: By default `DEEPLENSE_PROFILE`, or slurm/profile.yaml where that exists.

    Raises:
        JobError: A named file cannot be read, or a field is wrong.
    """
    named = path or os.environ.get("DEEPLENSE_PROFILE")
    file = Path(named or _DEFAULT)
    if not named and not file.exists():
        return Profile()
    try:
        if file.exists() and not file.is_file():
            raise JobError(f"{file}: is not a file; expected the profile of a site")
        content = yaml_text.load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(
            f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from error
    except yaml_text.YamlError as error:
        line = f", line {error.line}" if error.line else ""
        raise JobError(f"{file}{line}: not valid YAML ({error})") from error
    if not isinstance(content or {}, dict):
        raise JobError(f"{file}: expected fields and values, got {type(content).__name__}")
    try:
        return Profile.model_validate(content or {})
    except ValidationError as error:
        field, sentence = first_fault(error, Profile)
        raise JobError(f"{file}: {field}: {sentence}") from error
