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

    partition: Line | None = None  # partition, as sinfo shows it; several as a,b
    account: Line | None = None  # who pays
    qos: Line | None = None  # quality of service
    constraint: Line | None = None  # features that nodes must have, such as a100
    exclude: Line | None = None  # nodes to stay away from, such as gpu[03,17]
    # any other option of sbatch, without its dashes: {mail-type: FAIL}
    sbatch: dict[Option, Line | int | bool] = {}
    modules: list[Line] = []  # what `module load` loads, in this order
    setup: list[Line] = []  # shell lines that run before anything else
    srun_args: list[Line] = []  # more words for srun: [--cpu-bind=none]
    container: list[Line] = []  # words in front of the program, such as apptainer exec ...
    python: Line | None = None  # null: the one that submits, or python3 in a container
    # how signals are held back until the program listens for them
    hold: list[Line] = ["env", "--block-signal=USR2,TERM"]
    warn_seconds: int = Field(120, ge=1)  # warning before the time limit, in which a run saves
    requeues: int = Field(20, ge=0)  # how often a run that was cut short is requeued
    gpu_hour_price: float | None = Field(None, ge=0)  # for the estimate of submit --dry_run
    currency: Line = "EUR"  # of that price

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
