"""The galaxies of a set of shards that arcs are painted on, and what their catalogue says of them.

Columns are found by name, whatever its case; angles are arcsec, directions rad from x towards y:

    theta_e                         Einstein radius
    sigma_v, vdisp                  velocity dispersion, km/s
    z_l, z, redshift; z_s           of the galaxy; of what it would lens
    mag_i                           with a redshift it gives the dispersion (Faber and Jackson)
    mag_g, mag_r, ...               magnitude in a band
    q, phi                          of the light: axis ratio, direction
    fwhm_g, seeing_g, ...           of the point spread function of a band
    fwhm, seeing                    of all bands

What is not finite or not above zero is not known for that galaxy, and neither is a column of
texts.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from deeplense_batch.data.batches.reader import Reader, Rows
from deeplense_batch.data.encoding import Array, decode
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.filters import same_bands
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, data_digest, read_splits
from deeplense_batch.lensing.cosmology import angular_distances, einstein_radius_of_dispersion
from deeplense_batch.simulation.survey.settings import Survey

__all__ = ["Canvas", "Columns", "Galaxies", "can_lens", "dispersion", "read_canvas"]

_FAR = 10.0  # redshift behind which no source is looked for
_TURN = 2 * math.pi
# In names of classes; what stands before the word lens may turn it into its opposite.
_LENS = re.compile("lens", re.I)
_NO = re.compile(r"(?<![a-z])(?:non|not?|un|without)(?![a-z])", re.I)
_SAYS_NOTHING = re.compile(r"[-+]?[\d.]+|true|false|yes|no|[yntf]|pos(itive)?|neg(ative)?", re.I)

Columns = dict[str, NDArray[np.float64]]  # (N,), NaN where unknown


@dataclass(frozen=True)
class Galaxies:
    """The galaxies of one split."""

    info: SplitInfo
    rows: NDArray[np.int64]  # of those that can be used, ascending

    @cached_property
    def ids(self) -> list[str]:
        """Of all images of the split."""
        return self._split.ids()

    @cached_property
    def catalogue(self) -> dict[str, Array]:
        """All columns, (N,) each."""
        return {name: self._split.catalogue(name) for name in self._split.columns()}

    def images(self, rows: NDArray[np.int64]) -> Array:
        """Images, (n, C, H, W), with the values that they had before packing."""
        with Reader(self._pixels) as reader:
            stored = np.empty((len(rows), *self.info.shape), self.info.stored)
            reader.read(rows, stored)
        scale = None if self._scale is None else self._scale[rows]
        return decode(stored, scale, self.info.dtype)

    def known(self, bands: Sequence[str]) -> Columns:
        """What the catalogue says, by the first of the names above; NaN where it does not."""
        by_name = {name.lower(): values for name, values in self.catalogue.items()}
        names = {
            "theta_e": ["theta_e"], "sigma_v": ["sigma_v", "vdisp"], "z_s": ["z_s"], "q": ["q"],
            "z": ["z_l", "z", "redshift"], "phi": ["phi"], "mag_i": ["mag_i"],
        }  # fmt: skip
        for band in bands:
            low = band.lower()
            names[f"mag_{band}"] = [f"mag_{low}"]
            names[f"fwhm_{band}"] = [f"fwhm_{low}", f"seeing_{low}", "fwhm", "seeing"]
        unknown = np.full(len(self.info), math.nan)
        found = {}
        for name, allowed in names.items():
            values = next((by_name[a] for a in allowed if a in by_name), unknown)
            found[name] = _usable(values, name)
        if (np.abs(found["phi"]) > _TURN).any():
            raise ShardError(
                f"simulate: onto: {self.info.files[0].parent}: column phi: "
                f"{np.nanmax(np.abs(found['phi'])):g}; expected rad, from x towards y"
            )
        return found

    @cached_property
    def _split(self) -> Split:
        return Split(self.info, 0, len(self.info))

    @cached_property
    def _pixels(self) -> Rows:
        return Rows(self._split, None)

    @cached_property
    def _scale(self) -> NDArray[np.float64] | None:
        return self._split.scale()


@dataclass(frozen=True)
class Canvas:
    """A set of shards of galaxies."""

    root: str
    splits: Mapping[str, Galaxies]
    digest: str  # of the pixels, whatever the catalogue says
    said: tuple[str, ...] = ()  # in sentences, which images are left out or taken by their class

    @property
    def first(self) -> SplitInfo:
        """One of its splits; all have the same shape, type, bands and pixel scale."""
        return next(iter(self.splits.values())).info

    def digest_with(self, bands: Sequence[str]) -> str:
        """Name the pixels, and after a dash the columns that `Galaxies.known` reads, if any."""
        digest, is_any = hashlib.sha256(), False
        for split, galaxies in sorted(self.splits.items()):
            for name, values in galaxies.known(bands).items():
                is_known = np.isfinite(values)
                is_any = is_any or bool(is_known.any())
                digest.update(f"{split}:{name}:{len(values)}\n".encode())
                digest.update(is_known.tobytes() + values[is_known].astype("<f8").tobytes())
        return f"{self.digest}-{digest.hexdigest()[:16]}" if is_any else self.digest

    def for_survey(self, survey: Survey) -> tuple[Canvas, list[str]]:
        """Leave out the galaxies of which the catalogue says that they are no lens of the survey.

        Returns:
            The rest, and in sentences how many there were.
        """
        kept, lost = {}, 0
        for name, galaxies in self.splits.items():
            good = can_lens(galaxies.known(survey.bands), survey)[galaxies.rows]
            lost += int((~good).sum())
            if good.any():
                kept[name] = Galaxies(galaxies.info, galaxies.rows[good])
        if not kept:
            raise ShardError(
                f"simulate: onto: {self.root}: its catalogue gives none of "
                f"{counted(lost, 'galaxy', 'galaxies')} an Einstein radius of {_range(survey)} "
                "arcsec (galaxy.theta_e)"
            )
        said = (
            f"onto: {self.root}: {counted(lost, 'galaxy is', 'galaxies are')} left out, of which "
            f"the catalogue says that their Einstein radius is not one of {_range(survey)} arcsec "
            "(galaxy.theta_e)"
        )
        return Canvas(self.root, kept, self.digest, self.said), [said] if lost else []


def read_canvas(root: str) -> Canvas:
    """Describe a set of shards of galaxies; no image is read. Known lenses are left out.

    These are the images of a class whose name has the word lens, but for nonlens, no_lens,
    unlensed and the like.

    Raises:
        ShardError: There are no shards, they differ between splits, hold pictures of 8 bits, or
            nothing but lenses; or the name of a class, such as 1, says nothing at all.
    """
    infos = read_splits(root)
    first = next(iter(infos.values()))
    form = (first.shape, first.dtype)
    for info in infos.values():
        same = same_bands(info.bands, first.bands) and _same_scale(info, first)
        if (info.shape, info.dtype) != form or not same:
            raise ShardError(
                f"simulate: onto: {root}: splits {first.name} and {info.name} differ in shape, "
                "type, bands or pixel scale"
            )
    if first.dtype == np.uint8:
        raise ShardError(
            f"simulate: onto: {root}: holds pictures of 8 bits, whose values are no flux; "
            "expected images such as those of FITS files"
        )
    splits, counts = {}, Counter[str]()  # images of each class
    for name, info in infos.items():
        targets = Split(info, 0, len(info)).targets()
        counts.update(info.classes[target] for target in targets[targets >= 0].tolist())
        lens = [i for i, class_ in enumerate(info.classes) if _names_lenses(class_)]
        rows = np.flatnonzero(~np.isin(targets, lens))
        if len(rows):
            splits[name] = Galaxies(info, rows)
    said = _about_classes(root, counts)
    if not splits:
        raise ShardError(f"simulate: onto: {root}: holds lenses alone; expected other galaxies")
    return Canvas(root, splits, data_digest(root), said)


def _names_lenses(class_: str) -> bool:
    """Whether a class is plainly one of lenses."""
    lens = _LENS.search(class_)
    return lens is not None and not _NO.search(class_[: lens.start()])


def _about_classes(root: str, counts: Mapping[str, int]) -> tuple[str, ...]:
    """Say which classes are left out as lenses, and which are taken by names that say neither.

    Arguments:
        root: Named in the sentences.
        counts: Images of each class.

    Raises:
        ShardError: A name, such as 1, says nothing at all.
    """
    if unclear := [class_ for class_ in counts if _SAYS_NOTHING.fullmatch(class_)]:
        raise ShardError(
            f"simulate: onto: {root}: has images of class {' and '.join(sorted(unclear))}, which "
            "does not say whether they are lenses; pack it again with names in the order of the "
            "numbers, such as --classes nonlens,lens, or without labels, --label none"
        )
    lenses = [f"{class_} {count}" for class_, count in counts.items() if _names_lenses(class_)]
    others = [f"{class_} {count}" for class_, count in counts.items() if not _LENS.search(class_)]
    said = [f"onto: {root}: lenses are left out: {', '.join(lenses)}"] if lenses else []
    if others:
        said.append(
            f"onto: {root}: images of these classes are taken for galaxies that are no lenses, as "
            f"their names do not have that word: {', '.join(others)}"
        )
    return tuple(said)


def can_lens(known: Columns, survey: Survey) -> NDArray[np.bool_]:
    """Whether a galaxy may have an Einstein radius of the survey, as far as it is known, (N,)."""
    low, high = survey.galaxy.theta_e
    z, sigma = known["z"], dispersion(known, survey)
    nearest, farthest = survey.galaxy.behind.range
    ends = [
        _radius(sigma, z, np.where(np.isfinite(known["z_s"]), known["z_s"], z + behind))
        for behind in (max(nearest, 0.01), min(farthest, _FAR))
    ]
    may = ~(ends[0] > high) & ~(ends[1] < low)  # unknown ones may
    theta_e = known["theta_e"]
    return np.where(np.isfinite(theta_e), (low <= theta_e) & (theta_e <= high), may)


def dispersion(known: Columns, survey: Survey) -> NDArray[np.float64]:
    """Velocity dispersion, km/s, by the catalogue, or by magnitude and redshift; else NaN."""
    galaxy, z = survey.galaxy, known["z"]
    distance = angular_distances(*torch.from_numpy(np.stack([z, z + 1]))).lens.numpy()
    modulus = 5 * np.log10(distance * (1 + z) ** 2 * 1e5)
    absolute = known["mag_i"] - modulus - galaxy.m_i - galaxy.m_i_per_z * z
    return np.where(
        np.isfinite(known["sigma_v"]),
        known["sigma_v"],
        220 * 10 ** (absolute / galaxy.m_i_per_dex),
    )


def _radius(
    sigma_v: NDArray[np.float64], z: NDArray[np.float64], z_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Einstein radius of an isothermal sphere, arcsec; 0 before the lens, NaN where unknown."""
    distances = angular_distances(*torch.from_numpy(np.stack([z, np.maximum(z_s, z)])))
    return einstein_radius_of_dispersion(torch.from_numpy(sigma_v), distances).numpy()


def _usable(values: Array, name: str) -> NDArray[np.float64]:
    """A column with NaN where nothing is known."""
    if values.dtype == object:
        return np.full(len(values), math.nan)
    numbers = values.astype(np.float64)
    is_known = np.isfinite(numbers) & ((numbers > 0) | (name == "phi"))
    return np.where(is_known, numbers, math.nan)


def _same_scale(info: SplitInfo, other: SplitInfo) -> bool:
    """Whether two splits have one pixel scale, or none."""
    a, b = info.pixel_scale, other.pixel_scale
    return a == b or (math.isnan(a) and math.isnan(b))


def _range(survey: Survey) -> str:
    return " to ".join(f"{edge:g}" for edge in survey.galaxy.theta_e)
