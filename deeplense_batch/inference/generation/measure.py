"""How good generated images are: three sets of images in, numbers, notes and figures out.

Beside every number is the same number of ``real`` images: as many of the training set, compared
with the held-out ones. That is what a perfect generator would reach, and without it a number means
nothing; a higher precision or class accuracy than it is lost variety.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.scoring.figures import save as save_figure
from deeplense_batch.data.augment import symmetries
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.formats.filters import colour_channels
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.slices.representative import representative
from deeplense_batch.inference.generation import distances, figures, image_statistics
from deeplense_batch.inference.generation.features import Critic, Floats, Images, inception
from deeplense_batch.inference.trained import Trained, TrainedError
from deeplense_batch.models.weights import WeightsError
from deeplense_batch.tasks.generation import Generation
from deeplense_batch.tasks.task import Scores

__all__ = ["GENERATED", "HELD_OUT", "TRAINING", "Judgement", "measure"]

GENERATED, TRAINING, HELD_OUT = "generated", "training", "held-out"

_BLOCK = 1024  # training images in memory
_LEAST = 8  # images of a set that can be judged
_SHOWN = 8  # images of a class in a sheet
_COMPARED = {"generated": GENERATED, "real": TRAINING}  # what is compared with held-out images


@dataclass(frozen=True)
class Judgement:
    """What was measured of the images of a generator."""

    numbers: dict[str, Any]  # JSON; of each measure that of ``generated`` and of ``real`` images
    notes: list[str]
    figures: Mapping[str, Figure]
    arrays: Mapping[str, NDArray[Any]]  # of the figures

    @property
    def scores(self) -> Scores:
        """Every measure as ``<name>``, and that of real images as ``<name>_real``."""
        scores: Scores = {}
        for name, number in self.numbers.items():
            if isinstance(number, dict) and "generated" in number:
                scores |= {name: number["generated"], f"{name}_real": number["real"]}
        return scores

    def write(self, run: RunDir, title: str) -> None:
        """Save figures, and the arrays behind them as `judged.npz`."""
        temporary = run.path / f".judged.{os.getpid()}.tmp.npz"
        arrays: dict[str, Any] = dict(self.arrays)
        np.savez_compressed(temporary, **arrays)
        temporary.replace(run.path / "judged.npz")
        for name, figure in self.figures.items():
            if figure.get_suptitle() == "":
                figure.suptitle(title, fontsize=7, color="0.4")
            save_figure(figure, run.figures / f"{name}.png")


def measure(
    trained: Trained,
    critic: Critic | None,
    loaders: Mapping[str, Loader | Mixture],
    on_batch: Callable[[], None],
) -> Judgement:
    """Measure the images of a generator.

    Arguments:
        trained: The generator.
        critic: The classifier that judges; None measures only what needs no classifier.
        loaders: Of values as packed, as the generator sees them, by the names `GENERATED`,
            `TRAINING` and `HELD_OUT`.
        on_batch: Called now and then; what it raises ends it.

    Raises:
        ShardError: There are too few images.
        TrainedError: A generated image is not finite.
    """
    sets = _equal_sets(trained, loaders)
    return _Measuring(trained, critic, sets, loaders[TRAINING], on_batch).all()


@dataclass(frozen=True)
class _Sets:
    """Equally many images of three sets, as the generator sees them."""

    images: Mapping[str, Images]  # (N, C, H, W)
    targets: Mapping[str, NDArray[np.int64]]  # (N,)
    classes: tuple[str, ...]  # that images were drawn by; empty where they were not

    @property
    def generated(self) -> Images:
        return self.images[GENERATED]

    @property
    def held_out(self) -> Images:
        return self.images[HELD_OUT]


class _Measuring:
    """Everything that is measured, one method a question."""

    def __init__(
        self,
        trained: Trained,
        critic: Critic | None,
        sets: _Sets,
        pool: Loader | Mixture,
        on_batch: Callable[[], None],
    ) -> None:
        self._trained, self._critic, self._sets, self._pool = trained, critic, sets, pool
        self._on_batch = on_batch
        self._scale = trained.input_pixel_scale
        self._numbers: dict[str, Any] = {"images": len(sets.generated)}
        self._notes = [
            f"judged without class {name}: the images drawn, the training or the test slice have "
            "none"
            for number, name in enumerate(sets.classes)
            if number not in sets.targets[GENERATED]
        ]
        self._figures: dict[str, Figure] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def all(self) -> Judgement:
        self._features()
        self._inception()
        self._statistics()
        self._copies()
        self._sheet()
        return Judgement(self._numbers, self._notes, self._figures, self._arrays)

    def _features(self) -> None:
        """FID, KID, precision, recall, diversity and class fidelity, by the classifier."""
        if self._critic is None:
            self._notes.append(
                "judged without a classifier: FID, KID, precision, recall, diversity and the "
                "fidelity of classes need one (evaluate.classifier)"
            )
            return
        judge = self._critic.trained
        auc = judge.metrics["test"]["scores"].get("auc")
        self._numbers |= {"classifier": judge.run.name, "classifier_auc": auc}
        sure = "" if auc is None else f", whose test AUC is {auc:.4f}"
        self._notes.append(f"judged in the features of {judge.run.name}{sure}")
        features, logits = {}, {}
        for name, images in self._sets.images.items():
            features[name], logits[name] = self._critic(images)
            self._on_batch()
        self._numbers |= self._feature_distances(features)
        if self._sets.classes:
            self._numbers["class_accuracy"] = self._fidelity(self._critic, logits)

    def _feature_distances(self, features: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
        held_out = features[HELD_OUT]
        numbers: dict[str, dict[str, Any]] = {
            name: {} for name in ("fid", "kid", "precision", "recall", "diversity")
        }
        for name, set_ in _COMPARED.items():
            of = features[set_]
            numbers["fid"][name] = distances.fid(of, held_out)
            numbers["kid"][name], numbers["kid"][f"{name}_sd"] = distances.kid(of, held_out)
            precision, recall = distances.precision_recall(of, held_out)
            numbers["precision"][name], numbers["recall"][name] = precision, recall
            numbers["diversity"][name] = distances.spread(of) / distances.spread(held_out)
            self._on_batch()
        return numbers

    def _fidelity(self, critic: Critic, logits: Mapping[str, Floats]) -> dict[str, Any]:
        """How often the classifier gives the class asked for, or the label of a real image."""
        numbers: dict[str, Any] = {"classes": {name: {} for name in self._sets.classes}}
        for name, set_ in (("generated", GENERATED), ("real", HELD_OUT)):
            targets = self._sets.targets[set_]
            right = logits[set_].argmax(1) == critic.numbers(targets, self._sets.classes)
            numbers[name] = float(right.mean())
            for number, class_ in enumerate(self._sets.classes):
                of_class = right[targets == number]
                share = float(of_class.mean()) if len(of_class) else None
                numbers["classes"][class_][name] = share
        return numbers

    def _inception(self) -> None:
        """FID by the features of Inception, where its weights are here."""
        try:
            look = inception(self._sets.held_out, self._pool.device)
        except WeightsError as error:
            self._notes.append(
                f"fid_inception: not computed without the weights of inception_v3; {error}"
            )
            return
        features = {name: look(images) for name, images in self._sets.images.items()}
        self._numbers["fid_inception"] = {
            name: distances.fid(features[set_], features[HELD_OUT])
            for name, set_ in _COMPARED.items()
        }
        self._notes.append(
            "fid_inception: by torchvision's weights, which gives other numbers than the usual "
            "ones of TensorFlow"
        )

    def _statistics(self) -> None:
        """Power spectrum, pixels, Einstein radii, fluxes and peaks."""
        sky = image_statistics.sky_of(self._sets.held_out)
        sets = {name: image_statistics.measure(v, sky) for name, v in self._sets.images.items()}
        distances_of = {
            name: image_statistics.distances(sets[set_], sets[HELD_OUT], self._scale)
            for name, set_ in _COMPARED.items()
        }
        numbers = {
            statistic: {name: distances_of[name][statistic] for name in _COMPARED}
            for statistic in distances_of["real"]
        }
        self._numbers |= numbers
        self._numbers["einstein_radius"] |= {
            "unit": "arcsec" if np.isfinite(self._scale) else "pixels",
            "found": {n: float(np.isfinite(s.einstein_radii).mean()) for n, s in sets.items()},
        }
        for name, of in sets.items():
            values = {k: v for k, v in vars(of).items() if k != "pixels"}  # too many
            self._arrays |= {f"{name.replace('-', '_')}_{k}": v for k, v in values.items()}
        arguments = (sets, numbers, self._scale)
        self._figures["power_spectrum"] = figures.power_spectra(*arguments)
        self._figures["distributions"] = figures.distributions(*arguments)

    def _copies(self) -> None:
        """Nearest training neighbours of generated and of held-out images."""
        self._numbers["copied"], ratios, neighbours, views = self._nearest(_pixels)
        if self._critic is not None:
            critic = self._critic
            self._numbers["copied_features"], *_ = self._nearest(lambda x: critic(x)[0])
        shown = np.argsort(ratios)[:_SHOWN]
        turned = [
            self._views(self._sets.generated[i : i + 1])[views[i]][0] for i in shown.tolist()
        ]
        nearest = _images(self._pool, neighbours[shown])
        self._arrays |= {"nearest_generated": np.stack(turned), "nearest_training": nearest}
        self._figures["neighbours"] = figures.neighbour_sheet(
            turned, list(nearest), ratios[shown].tolist(),
            f"generated images that are nearest to a training image, {self._trained.run.name}\n"
            "ratio: this distance over the median of that of held-out images",
            colour_channels(self._trained.bands),
        )  # fmt: skip

    def _nearest(
        self, look: Callable[[Images], Floats | Images]
    ) -> tuple[dict[str, float], Floats, NDArray[np.int64], NDArray[np.int64]]:
        """How near images are to the training set, in the features that `look` gives.

        Returns:
            Numbers; and of each generated image, (N,): the distance over the median of held-out
            images, the number of the neighbour, and the symmetry under which it is that near.
        """
        sets = (self._sets.generated, self._sets.held_out)
        queries = []
        for view in [view for images in sets for view in self._views(images)]:
            queries.append(look(view))
            self._on_batch()
        distance, neighbour = distances.nearest(
            np.concatenate(queries), (look(block) for block in self._blocks())
        )
        distance = distance.reshape(2, -1, len(sets[0]))  # by set, view and image
        neighbour = neighbour.reshape(distance.shape)
        view = distance[0].argmin(0)
        generated, held_out = distance.min(1)
        nearest = neighbour[0][view, np.arange(len(view))]
        usual = max(float(np.median(held_out)), 1e-12)
        return distances.copied(generated, held_out), generated / usual, nearest, view

    def _views(self, images: Images) -> list[Images]:
        """Images under the symmetries that training showed them in."""
        augment = self._trained.job.data.augment
        if not (augment.flips or augment.dihedral):
            return [images]
        return [view.numpy() for view in symmetries(torch.from_numpy(images))]

    def _blocks(self) -> Iterator[Images]:
        """All training images, a block at a time."""
        for first in range(0, len(self._pool), _BLOCK):
            self._on_batch()
            yield _images(self._pool, np.arange(first, min(first + _BLOCK, len(self._pool))))

    def _sheet(self) -> None:
        """Generated images above held-out ones."""
        sets = (self._sets.generated, self._sets.held_out)
        rows = {"": [images[:_SHOWN] for images in sets]}
        if self._sets.classes:
            targets = [self._sets.targets[name] for name in (GENERATED, HELD_OUT)]
            rows = {
                name: [v[t == k][:_SHOWN] for v, t in zip(sets, targets, strict=True)]
                for k, name in enumerate(self._sets.classes)
            }
        title = f"generated images and held-out ones, {self._trained.run.name}"
        self._figures["samples"] = figures.sample_sheet(
            rows, title, colour_channels(self._trained.bands)
        )


def _equal_sets(trained: Trained, loaders: Mapping[str, Loader | Mixture]) -> _Sets:
    """Equally many images of all sets, and of each class where images were drawn by class.

    Raises:
        ShardError: There are too few.
        TrainedError: A generated image is not finite.
    """
    assert isinstance(trained.task, Generation)
    classes = trained.classes if "class" in trained.task.conditions else ()
    targets = {name: loader.targets.cpu().numpy() for name, loader in loaders.items()}
    grouped = {
        name
        for name, loader in loaders.items()
        if loader.info.group or isinstance(loader, Mixture)  # whose sets lie one after another
    }
    chosen = _equally_many(targets, len(classes), grouped)
    count = len(chosen[GENERATED])
    if count < _LEAST:
        raise ShardError(
            f"evaluate: {count} images of each set, drawn, training and held-out, are too few; "
            f"expected {_LEAST} or more"
        )
    images = {name: _images(loader, chosen[name]) for name, loader in loaders.items()}
    broken = int((~np.isfinite(images[GENERATED])).any((1, 2, 3)).sum())
    if broken:
        raise TrainedError(f"{trained.run.path}: {broken} of {count} drawn images are not finite")
    return _Sets(images, {name: targets[name][chosen[name]] for name in chosen}, classes)


def _equally_many(
    targets: Mapping[str, NDArray[np.int64]], classes: int, grouped: Collection[str]
) -> dict[str, NDArray[np.int64]]:
    """Sorted indices of as many samples of each class, or without classes, of every set.

    Of sets whose images are packed in groups, `grouped`, they are of all groups.
    """
    chosen: dict[str, list[NDArray[np.int64]]] = {name: [] for name in targets}
    for number in range(max(classes, 1)):
        of_class = {
            name: np.flatnonzero(t == number) if classes else np.arange(len(t))
            for name, t in targets.items()
        }
        count = min(map(len, of_class.values()))
        for name, indices in of_class.items():
            places = representative(len(indices), count, in_groups=name in grouped)
            chosen[name].append(indices[places])
    return {name: np.sort(np.concatenate(indices)) for name, indices in chosen.items()}


def _images(loader: Loader | Mixture, indices: NDArray[np.int64]) -> Images:
    """Some images of a loader, (N, C, H, W)."""
    parts = np.array_split(indices, -(-len(indices) // 256))
    return np.concatenate([images.cpu().numpy() for images, _, _ in loader.batches(parts)])


def _pixels(images: Images) -> Images:
    return images.reshape(len(images), -1)
