"""What a recipe says of images: which are learnt from, and what is done to each."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from deeplense_batch.core.sections import Section, list_of
from deeplense_batch.core.sections.fold_names import Folded, FoldName, fold_of, place_of
from deeplense_batch.core.sections.simulated import SimulatedImages

__all__ = ["Augment", "Channels", "CurriculumSet", "DataSection", "TrainingSet"]

# Fields that recipes of earlier versions lack: at their defaults they are no part of an identity.
_LATER = (
    *("softening", "sky_sd", "per", "clip", "roots", "classes", "channels"),
    *("curriculum", "register", "simulate"),
)

# pydantic warns of a field that is called as a method of its metaclass, which nobody calls here.
warnings.filterwarnings("ignore", 'Field name "register" .* shadows', UserWarning)


class Augment(Section):
    """Random changes of a training image, drawn anew for every epoch and sample."""

    flips: bool = False  # mirror left to right and top to bottom, each at random; exact
    dihedral: bool = False  # one of the 8 symmetries of the square (includes flips); exact
    degrees: float = Field(0.0, ge=0, le=180)  # rotate by up to this angle, either way
    translate: float = Field(0.0, ge=0, lt=1)  # shift by up to this fraction of the size
    scale: Annotated[tuple[float, float], list_of("two numbers")] = (1.0, 1.0)  # zoom, from to
    blur: float = Field(0.0, ge=0)  # Gaussian blur of a sigma between 0 and this, pixels
    noise: float = Field(0.0, ge=0)  # add white noise of this sd, in units of the normalised image
    # draw the photon counts of clean sets, which `simulate --keep clean` makes, anew; those of
    # images that are scored are drawn once
    photon_noise: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale should rise from above 0")
        return self


def _named_once(value: tuple[str | int, ...] | str | None) -> tuple[str | int, ...] | str | None:
    if isinstance(value, tuple):
        if not value or len(set(value)) < len(value):
            raise ValueError("expected each band once, and at least one; null is all")
        if any(isinstance(band, int) and band < 0 for band in value):
            raise ValueError("expected numbers of bands from 0 on")
    return value


# Bands of the images, by name or by number from 0, or `mean`, the mean of all.
Channels = Annotated[
    tuple[str | int, ...] | str | None,
    list_of("bands by name or number", or_="mean", of=(str, int)),
    AfterValidator(_named_once),
]


class TrainingSet(Section):
    """One of several sets of shards that a job is trained on at once."""

    root: str  # folder of the shards
    train: str = "train"  # slice to train on
    # how many of an epoch's images come of it, beside the weights of the other sets; left out of
    # all sets: as many as it has
    weight: float | None = Field(None, gt=0)
    # in place of data.channels
    channels: Channels = None
    digest: str | None = None  # of its content; filled in when the run is planned


class CurriculumSet(Section):
    """A set of shards that a job is trained on before the others."""

    root: str  # folder of the shards
    train: str = "train"  # slice to train on
    epochs: int = Field(ge=1)  # passes over it, of those of train.epochs
    digest: str | None = None  # of its content; filled in when the run is planned


class DataSection(Section):
    """What is learnt from: slices of the splits of a folder of shards."""

    root: str  # folder of the shards
    # sets that are trained on together, in place of `train` of `root`; `valid` and `test` stay
    # slices of `root`: [{root: data/a}, {root: data/b, train: "train[:10%]", weight: 0.2}]
    roots: Annotated[tuple[TrainingSet, ...], list_of("sets")] = ()
    # sets that are trained on first, one after another, and then `train` or `roots` for what is
    # left of train.epochs: [{root: data/heavier, epochs: 6}, {root: data/heavy, epochs: 4}]
    curriculum: Annotated[tuple[CurriculumSet, ...], list_of("sets")] = ()
    # new images, simulated as the job trains on them, in place of those of `train`, by which they
    # are normalised all the same: {images: 30000} makes so many an epoch like those of root, or
    # like those of a preset: {images: 30000, preset: varied, set: {sphere.count: 30}}
    simulate: SimulatedImages | None = None
    # cross-validation: 3/5 tests on the third of five folds of the split that `train` names,
    # validates on the next and trains on the others; a grid over 1/5 to 5/5 tests on every image.
    # With roots it is `root` among them that is cut; the other sets stay as they are listed
    fold: str | None = None
    # slice to train on, such as train[:10%], train[100:200] or train[folds 1,2/5]; beside fold a
    # whole split
    train: str = "train"
    valid: str = "val[:50%]"  # slice that picks the best epoch
    test: str = "val[50%:]"  # slice that is scored once, at the end
    # other names of classes, of all sets: {no: nonlens}; two that get one name become one
    classes: dict[str, str] = Field({})
    # bands that a network sees, by name or by number from 0, such as [g, r] or [0]; mean: the mean
    # of all; null: all
    channels: Channels = None
    crop: int | None = Field(None, ge=8)  # keep this many central pixels, before resizing
    size: int | None = Field(None, ge=8)  # resize to this many pixels; null keeps the stored size
    # of pixel values, before normalisation
    stretch: Literal["linear", "asinh", "log", "sqrt"] = "linear"
    # where the stretch turns from linear, in standard deviations of the sky: 3; null: at 0.05,
    # for images from 0 to 1 (sqrt: nowhere linear)
    softening: float | None = Field(None, gt=0)
    # standard deviation of the sky in each band, in units of the images; null: measured on the
    # training slice
    sky_sd: Annotated[tuple[float, ...] | None, list_of("numbers, one for each band")] = None
    # whose mean and sd normalise: those of each band of the training slice, of all its bands
    # together (set), or of each image itself, all its bands together
    per: Literal["set", "band", "image"] = "band"
    # percentiles between which stretched values are kept, of what `per` says: [0.1, 99.9]
    clip: Annotated[tuple[float, float] | None, list_of("two numbers")] = None
    augment: Augment = Augment()
    # of pairs: find by how much each image is shifted against its input, once, and move the image
    # back when it is read
    register: bool = False
    tta: bool = False  # score the mean prediction over the 8 symmetries of the square

    @model_validator(mode="before")
    @classmethod
    def _by_folds(cls, fields: Any) -> Any:
        """Name the slices that `fold` stands for, so that a job says plainly what it uses."""
        if not isinstance(fields, Mapping) or not isinstance(fields.get("fold"), str):
            return fields
        sets = fields.get("roots") or ()
        place = place_of(fields.get("root"), sets) if isinstance(sets, list | tuple) else None
        if sets and place is None:
            return fields
        split = (fields if place is None else sets[place]).get("train", _default("train"))
        with contextlib.suppress(ValueError):  # which the validator of `fold` raises again
            if isinstance(split, str) and re.fullmatch(r"\w+", split):
                train, valid, test = Folded.of(split, *fold_of(fields["fold"]))
                slices = {"valid": valid, "test": test} | dict(fields)
                if place is None:
                    return slices | {"train": train}
                cut = {**sets[place], "train": train}
                return slices | {"roots": [*sets[:place], cut, *sets[place + 1 :]]}
        return fields

    @field_validator("fold")
    @classmethod
    def _one_of_several(cls, value: str | None) -> str | None:
        if value is None:
            return None
        fold, folds = fold_of(value)
        return f"{fold}/{folds}"  # 01/3 is 1/3

    @field_validator("fold")
    @classmethod
    def _of_one_among_sets(cls, value: str | None, others: ValidationInfo) -> str | None:
        root, sets = others.data.get("root"), others.data.get("roots")
        if value is None or not sets or root is None:
            return value
        train = _train_of(root, sets)
        if train is None:
            raise ValueError(
                f"cuts data.root, {root}, into folds; expected it once among data.roots, as "
                f"{{root: {root}}}"
            )
        name = FoldName.parse(train)
        if name is None or train != Folded.of(name.split, *fold_of(value)).train:
            raise ValueError(
                f"cuts a whole split, such as train; data.roots names {train} of {root}"
            )
        return value

    @field_validator("simulate")
    @classmethod
    def _in_place_of_a_slice(
        cls, value: SimulatedImages | None, others: ValidationInfo
    ) -> SimulatedImages | None:
        if value is not None and others.data.get("roots"):
            raise ValueError("is trained on alone; leave out data.roots, or list other sets first")
        return value

    @field_validator("fold")
    @classmethod
    def _of_images_that_are_stored(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is not None and others.data.get("simulate") is not None:
            raise ValueError("cuts what is trained on, and data.simulate makes that anew")
        return value

    @field_validator("register")
    @classmethod
    def _of_pairs_that_are_stored(cls, value: bool, others: ValidationInfo) -> bool:
        if value and others.data.get("simulate") is not None:
            raise ValueError("measures shifts of stored pairs; leave it out with data.simulate")
        return value

    @field_validator("train", "valid", "test")
    @classmethod
    def _of_the_fold(cls, value: str, others: ValidationInfo) -> str:
        fold, use = others.data.get("fold"), others.field_name or ""
        sets, train = others.data.get("roots"), others.data.get("train")
        if sets:
            train = None if use == "train" else _train_of(others.data.get("root"), sets)
        elif use == "train":
            train = value
        if fold is None or train is None:  # none is given, or it is wrong itself
            return value
        name = FoldName.parse(train)
        allowed = Folded.of(name.split if name else "", *fold_of(fold))._asdict()[use]
        if value != allowed and use == "train":
            raise ValueError(f"expected a whole split, such as train, beside data.fold {fold}")
        if value != allowed:
            raise ValueError(f"data.fold {fold} makes it {allowed}; leave it out")
        return value

    @field_validator("roots")
    @classmethod
    def _all_weighted(cls, value: tuple[TrainingSet, ...]) -> tuple[TrainingSet, ...]:
        weighted = sum(each.weight is not None for each in value)
        if 0 < weighted < len(value):
            raise ValueError(
                f"{weighted} of {len(value)} sets have a weight; expected one for each, or none"
            )
        return value

    @field_validator("train")
    @classmethod
    def _of_one_set(cls, value: str, others: ValidationInfo) -> str:
        if others.data.get("roots") and value != _default("train"):
            raise ValueError(
                "is of one set, and data.roots says what is trained on; leave out one of them"
            )
        return value

    @field_validator("softening")
    @classmethod
    def _of_a_stretch(cls, value: float | None, others: ValidationInfo) -> float | None:
        if value is not None and others.data.get("stretch") == "linear":
            raise ValueError("is for stretch asinh, log or sqrt; leave it out with linear")
        return value

    @field_validator("sky_sd")
    @classmethod
    def _of_a_softening(
        cls, value: tuple[float, ...] | None, others: ValidationInfo
    ) -> tuple[float, ...] | None:
        if value is not None and others.data.get("softening", value) is None:
            raise ValueError("is the unit of data.softening, which is not given")
        if value is not None and not all(sd > 0 for sd in value):
            raise ValueError("expected numbers above 0, one for each band")
        return value

    @field_validator("clip")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] < value[1] <= 100:
            raise ValueError("expected two percentiles that rise, from 0 to 100")
        return value

    def identifying(self) -> dict[str, Any]:
        """The fields that change the result of a run, as JSON.

        All but the folders, and `fold`, which the slices say.
        """
        later = {name for name in _LATER if getattr(self, name) == _default(name)}
        fields = self.model_dump(mode="json", exclude={"root", "fold"} | later)
        for each in (*fields.get("roots", ()), *fields.get("curriculum", ())):
            del each["root"]
        if not self.augment.photon_noise:  # as in recipes that are older than the field
            del fields["augment"]["photon_noise"]
        return fields

    @property
    def others(self) -> tuple[TrainingSet | CurriculumSet, ...]:
        """The sets that are listed beside ``root``."""
        return *self.roots, *self.curriculum

    @property
    def cannot_undo(self) -> str | None:
        """What keeps a normalised image from being given back, and what would not; else None."""
        if self.stretch != "linear":
            return f"data.stretch {self.stretch}, expected linear"
        if self.per == "image":
            return "data.per image, expected band or set"
        if self.clip is not None:
            return f"data.clip {list(self.clip)}, expected null"
        return None


def _train_of(root: str | None, sets: tuple[TrainingSet, ...]) -> str | None:
    """The slice of the set in a folder that is trained on; None unless it is there once."""
    place = place_of(root, [{"root": each.root} for each in sets])
    return None if place is None else sets[place].train


def _default(name: str) -> Any:
    return DataSection.model_fields[name].default
