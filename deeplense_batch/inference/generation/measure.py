"""What is found of generated images: three sets in, numbers, notes and figures out.

Every number stands beside the same number of ``real`` images: as many of the training set against
the held-out ones. A perfect generator would have that, and a number without it means nothing; a
higher precision or class accuracy is lost variety.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.scoring.figures import save as save_figure
from deeplense_batch.data.loader import Loader
from deeplense_batch.data.shards import ShardError
from deeplense_batch.inference.generation import distances, figures, image_statistics
from deeplense_batch.inference.generation.features import Critic, Floats, Images, inception
from deeplense_batch.inference.trained import Trained, TrainedError
from deeplense_batch.models.weights import WeightsError
from deeplense_batch.tasks.generation import Generation
from deeplense_batch.tasks.task import Scores
from deeplense_batch.training.trainer import symmetries

__all__ = ["GENERATED", "HELD_OUT", "TRAINING", "Judgement", "measure"]

GENERATED, TRAINING, HELD_OUT = "generated", "training", "held-out"

_BLOCK = 1024  # training images in memory
_LEAST = 8  # images of a set that can be judged
_SHOWN = 8  # images of a class in a sheet
_YARDSTICK = {"generated": GENERATED, "real": TRAINING}  # what is held against held-out images


@dataclass(frozen=True)
class Judgement:
    """What was found of the images of a generator."""

    numbers: dict[str, Any]  # JSON; of each measure that of ``generated`` and of ``real`` images
    notes: list[str]
    figures: Mapping[str, Figure]
    arrays: Mapping[str, NDArray[Any]]  # of the figures

    @property
    def scores(self) -> Scores:
        """Every measure as ``<name>``, and its yardstick as ``<name>_real``."""
        scores: Scores = {}
        for name, found in self.numbers.items():
            if isinstance(found, dict) and "generated" in found:
                scores |= {name: found["generated"], f"{name}_real": found["real"]}
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

    def __str__(self) -> str:
        scores = self.scores
        names = [name for name in scores if not name.endswith("_real")]
        lines = [f"{'':20} {'generated':>10} {'real':>10}"]
        for name in names:
            cells = (scores[name], scores[f"{name}_real"])
            texts = ("-" if value is None else f"{value:.4g}" for value in cells)
            lines.append(" ".join([f"{name:20}", *(f"{text:>10}" for text in texts)]))
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def measure(
    trained: Trained,
    critic: Critic | None,
    loaders: Mapping[str, Loader],
    on_batch: Callable[[], None],
) -> Judgement:
    """Measure all that can be told of the images of a generator.

    Arguments:
        trained: The generator.
        critic: The classifier that judges; without one, what needs none is measured.
        loaders: Of values as packed, as the generator sees them, by the names `GENERATED`,
            `TRAINING` and `HELD_OUT`.
        on_batch: Called now and then; what it raises ends it.

    Raises:
        ShardError: There are too few images.
        TrainedError: A generated image is not finite.
    """
    sets = _alike(trained, loaders)
    return _Measuring(trained, critic, sets, loaders[TRAINING], on_batch).all()


@dataclass(frozen=True)
class _Sets:
    """Equally many images of three sets, as the generator sees them."""

    images: Mapping[str, Images]  # (N, C, H, W)
    targets: Mapping[str, NDArray[np.int64]]  # (N,)
    classes: tuple[str, ...]  # that the generator was told; none, if it was not

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
        pool: Loader,
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
                "fidelity of classes need one (judge.classifier)"
            )
            return
        judge = self._critic.trained
        auc = judge.metrics["test"]["scores"].get("auc")
        self._numbers |= {"classifier": judge.run.name, "classifier_auc": auc}
        sure = "" if auc is None else f", whose test AUC is {auc:.4f}"
        self._notes.append(f"judged in the features of {judge.run.name}{sure}")
        seen = {}
        for name, images in self._sets.images.items():
            seen[name] = self._critic(images)
            self._on_batch()
        features = {name: found[0] for name, found in seen.items()}
        held_out = features[HELD_OUT]
        found: dict[str, dict[str, Any]] = {
            name: {} for name in ("fid", "kid", "precision", "recall", "diversity")
        }
        for name, set_ in _YARDSTICK.items():
            of = features[set_]
            found["fid"][name] = distances.fid(of, held_out)
            found["kid"][name], found["kid"][f"{name}_sd"] = distances.kid(of, held_out)
            among = distances.precision_recall(of, held_out)
            found["precision"][name], found["recall"][name] = among
            found["diversity"][name] = distances.spread(of) / distances.spread(held_out)
            self._on_batch()
        self._numbers |= found
        if self._sets.classes:
            self._numbers["class_accuracy"] = self._fidelity(
                self._critic, {name: logits for name, (_, logits) in seen.items()}
            )

    def _fidelity(self, critic: Critic, logits: Mapping[str, Floats]) -> dict[str, Any]:
        """How often the classifier sees the class that was asked for, or is there."""
        found: dict[str, Any] = {"classes": {name: {} for name in self._sets.classes}}
        for name, set_ in (("generated", GENERATED), ("real", HELD_OUT)):
            targets = self._sets.targets[set_]
            right = logits[set_].argmax(1) == critic.numbers(targets, self._sets.classes)
            found[name] = float(right.mean())
            for number, class_ in enumerate(self._sets.classes):
                of_class = right[targets == number]
                found["classes"][class_][name] = float(of_class.mean()) if len(of_class) else None
        return found

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
            for name, set_ in _YARDSTICK.items()
        }
        self._notes.append(
            "fid_inception: by torchvision's weights, which gives other numbers than the usual "
            "ones of TensorFlow"
        )

    def _statistics(self) -> None:
        """Power spectrum, pixels, Einstein radii, fluxes and peaks."""
        sky = image_statistics.sky_of(self._sets.held_out)
        sets = {name: image_statistics.measure(v, sky) for name, v in self._sets.images.items()}
        away = {
            name: image_statistics.distances(sets[set_], sets[HELD_OUT], self._scale)
            for name, set_ in _YARDSTICK.items()
        }
        found = {name: {k: away[k][name] for k in _YARDSTICK} for name in away["real"]}
        self._numbers |= found
        self._numbers["einstein_radius"] |= {
            "unit": "arcsec" if np.isfinite(self._scale) else "pixels",
            "found": {n: float(np.isfinite(s.einstein_radii).mean()) for n, s in sets.items()},
        }
        for name, of in sets.items():
            values = {k: v for k, v in vars(of).items() if k != "pixels"}  # too many
            self._arrays |= {f"{name.replace('-', '_')}_{k}": v for k, v in values.items()}
        arguments = (sets, found, self._scale)
        self._figures["power_spectrum"] = figures.power_spectra(*arguments)
        self._figures["distributions"] = figures.distributions(*arguments)

    def _copies(self) -> None:
        """Nearest training neighbours of generated and of held-out images."""
        self._numbers["copied"], near, places, views = self._nearest(_pixels)
        if self._critic is not None:
            critic = self._critic
            self._numbers["copied_features"], *_ = self._nearest(lambda x: critic(x)[0])
        shown = np.argsort(near)[:_SHOWN]
        turned = [
            self._views(self._sets.generated[i : i + 1])[views[i]][0] for i in shown.tolist()
        ]
        neighbours = _images(self._pool, places[shown])
        self._arrays |= {"nearest_generated": np.stack(turned), "nearest_training": neighbours}
        self._figures["neighbours"] = figures.neighbour_sheet(
            turned, list(neighbours), near[shown].tolist(),
            f"generated images that are nearest to a training image, {self._trained.run.name}\n"
            "ratio: this distance over the median of that of held-out images",
        )  # fmt: skip

    def _nearest(
        self, look: Callable[[Images], Floats | Images]
    ) -> tuple[dict[str, float], Floats, NDArray[np.int64], NDArray[np.int64]]:
        """How near the training set images are, in what `look` makes of them.

        Returns:
            Numbers; and of each generated image, (N,): the distance over the median of held-out
            images, the place of the neighbour, and the symmetry under which it is that near.
        """
        sets = (self._sets.generated, self._sets.held_out)
        queries = []
        for view in [view for images in sets for view in self._views(images)]:
            queries.append(look(view))
            self._on_batch()
        away, places = distances.nearest(
            np.concatenate(queries), (look(block) for block in self._blocks())
        )
        away = away.reshape(2, -1, len(sets[0]))
        places = places.reshape(away.shape)
        view = away[0].argmin(0)
        generated, held_out = away.min(1)
        own = places[0][view, np.arange(len(view))]
        usual = max(float(np.median(held_out)), 1e-12)
        return distances.copied(generated, held_out), generated / usual, own, view

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
        self._figures["samples"] = figures.sample_sheet(rows, title)


def _alike(trained: Trained, loaders: Mapping[str, Loader]) -> _Sets:
    """Equally many of all sets, and of each class, where images were drawn by class.

    Raises:
        ShardError: There are too few.
        TrainedError: A generated image is not finite.
    """
    assert isinstance(trained.task, Generation)
    classes = trained.classes if "class" in trained.task.conditions else ()
    targets = {name: loader.targets.cpu().numpy() for name, loader in loaders.items()}
    places: dict[str, list[NDArray[np.int64]]] = {name: [] for name in loaders}
    for number in range(max(len(classes), 1)):
        own = {
            name: np.flatnonzero(t == number) if classes else np.arange(len(t))
            for name, t in targets.items()
        }
        count = min(map(len, own.values()))
        for name, some in own.items():
            places[name].append(some[:count])
    chosen = {name: np.sort(np.concatenate(some)) for name, some in places.items()}
    count = len(chosen[GENERATED])
    if count < _LEAST:
        raise ShardError(
            f"judge: {count} images of each set, drawn, training and held-out, are too few; "
            f"expected {_LEAST} or more"
        )
    images = {name: _images(loader, chosen[name]) for name, loader in loaders.items()}
    broken = int((~np.isfinite(images[GENERATED])).any((1, 2, 3)).sum())
    if broken:
        raise TrainedError(f"{trained.run.path}: {broken} of {count} drawn images are not finite")
    return _Sets(images, {name: targets[name][chosen[name]] for name in chosen}, classes)


def _images(loader: Loader, places: NDArray[np.int64]) -> Images:
    """Some images of a loader, (N, C, H, W)."""
    parts = np.array_split(places, -(-len(places) // 256))
    return np.concatenate([images.cpu().numpy() for images, _, _ in loader.batches(parts)])


def _pixels(images: Images) -> Images:
    return images.reshape(len(images), -1)
