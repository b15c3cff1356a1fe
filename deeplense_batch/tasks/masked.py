"""What lies under hidden patches of an image: a network learns what images are like, unlabelled.

Of the N patches of an image, p pixels on a side, a share is hidden and restored from the others
(`models.masked_autoencoder`). With hidden patches h, their pixels x and the restored ones y,

    loss = mean over h of |y - t|^2 / P        t = (x - mean(x)) / sd(x)

where mean and sd are of the P pixels of the patch itself (or t = x). The score counts what is
explained of what a guess of zeros leaves, which in both cases is the mean: of each patch itself,
or of the training set,

    masked_r2 = 1 - sum |y - t|^2 / sum |t|^2

A patch of sky is all noise, which nothing can restore: masked_r2 stays far below 1.

What it is good for is said by a linear probe: a logistic regression from the features of whole
images, the mean over the patches, to their classes, fitted on one half of the scored slice and
scored on the other, and the other way round.

References:
    He et al. 2021, arXiv:2111.06377; Alain and Bengio 2016, arXiv:1610.01644 (linear probes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.core.scoring import figures, metrics
from deeplense_batch.core.scoring.image_grid import contact_sheet
from deeplense_batch.tasks.task import Arrays, Batch, Scores, Task, TaskSpec

__all__ = ["Masked", "patches_of", "without_patches"]

_LEAST_VARIANCE = 1e-6  # of a patch, added before its root is taken, as in the paper
_GREY = 0.04  # of the range of an image: neither its sky nor its arcs, once faint parts are lifted
_EXAMPLES = 6  # images that a figure shows
_DRAWN = {  # scores in the figure of the history
    "masked_r2": ("R2 of hidden patches", "R2"),
    "probe_auc": ("AUC of the linear probe", "AUC"),
}
_FOLDS = 2  # of the linear probe
_STEPS = 2000  # that its fit may take at most; standardised features need a tenth of them


class Masked(Task):
    """Squared error of hidden patches, judged by what of them is explained.

    The hidden patches of a training image are drawn anew in every epoch, those of a scored image
    are always the same.

    Arguments:
        classes: Class names, for the linear probe; images need none.
        mask_ratio: Share of the patches that are hidden.
        norm_pix: Learn each patch less its mean, divided by its sd.
        probe_every: Epochs from one linear probe of the validation slice to the next. The test
            slice has one too.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
        probe_every: int = 5,
    ) -> None:
        spec = TaskSpec(
            monitor="masked_r2",
            num_outputs=0,
            primary_output="errors",
            needs_labels=False,
            draws=True,
            predicts=False,
            replayable=True,
        )
        super().__init__(spec, classes)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio: should be above 0 and below 1, got {mask_ratio!r}")
        if probe_every < 1:
            raise ValueError(f"probe_every: should be 1 or more, got {probe_every!r}")
        self.mask_ratio, self.norm_pix, self.probe_every = mask_ratio, norm_pix, probe_every

    def losses(
        self, model: nn.Module, batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        assert batch.draws is not None  # which the spec asks for
        restored = model(batch.images, batch.draws, self.mask_ratio)
        return {"loss": self._errors(restored, batch.images)[0].mean()}

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Score each image.

        Returns:
            ``errors`` and ``powers``, (B,), mean squares over the hidden patches: of what is
            restored less what is true, and of what is true; ``features`` of the whole image,
            (B, D).
        """
        restored = model(batch.images, batch.index, self.mask_ratio)
        errors, powers = self._errors(restored, batch.images)
        return {"errors": errors, "powers": powers, "features": model(batch.images)["features"]}

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        scores = self._restored(outputs)
        probed, notes = _probed(outputs, self.classes)
        return scores | probed, notes

    def score_epoch(self, outputs: Arrays, epoch: int) -> Scores:
        if epoch % self.probe_every:
            return self._restored(outputs)
        return self.score(outputs)[0]

    def chosen(self, outputs: Arrays) -> NDArray[np.int64]:
        return np.arange(min(_EXAMPLES, len(outputs["ids"])))

    def images_of(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Images, (E, C, H, W), seen, restored and true.

        Returns:
            ``true_images``; ``seen_images``, in which hidden patches are grey; and
            ``restored_images``, in which they have what the network gives.

        With `norm_pix` that is what it gives in units of the true mean and sd of each patch.
        """
        images, restored = batch.images, model(batch.images, batch.index, self.mask_ratio)
        side = _side(restored["patches"], images)
        true = patches_of(images, side)
        hidden, given = restored["hidden"][:, :, None], restored["patches"].float()
        if self.norm_pix:
            mean, sd = _moments(true)
            given = given * sd + mean
        size, low, high = images.shape[-1], images.amin((1, 2, 3)), images.amax((1, 2, 3))
        grey = (low + _GREY * (high - low))[:, None, None]
        return {
            "seen_images": without_patches(torch.where(hidden, grey, true), size),
            "restored_images": without_patches(torch.where(hidden, given, true), size),
            "true_images": images,
        }

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        drawn = {"history": figures.history(history, _DRAWN, loss="error of hidden patches")}
        if "true_images" in outputs:
            kinds = ("seen", "restored", "true")
            each = zip(*(outputs[f"{kind}_images"] for kind in kinds), strict=True)
            rows = [(image, kind) for row in each for image, kind in zip(row, kinds, strict=True)]
            drawn["restored"] = contact_sheet(
                [image for image, _ in rows],
                [kind for _, kind in rows],
                f"{self.mask_ratio:.0%} of the patches hidden, restored, and true",
                columns=2 * len(kinds),
                like=[*outputs["true_images"]],
            )
        return drawn

    def _errors(self, restored: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squares over the hidden patches of each image, (B,): of the error, of the truth."""
        given, hidden = restored["patches"].float(), restored["hidden"].float()
        true = patches_of(images, _side(given, images))
        if self.norm_pix:
            mean, sd = _moments(true)
            true = (true - mean) / sd
        share = hidden / hidden.sum(1, keepdim=True)
        errors, powers = ((values**2).mean(2) for values in (given - true, true))
        return (share * errors).sum(1), (share * powers).sum(1)

    def _restored(self, outputs: Arrays) -> Scores:
        errors, powers = (np.asarray(outputs[n], np.float64) for n in ("errors", "powers"))
        explained = 1 - errors.sum() / powers.sum() if powers.sum() > 0 else None
        return {"loss": float(errors.mean()), "masked_r2": explained}


def patches_of(images: Tensor, side: int) -> Tensor:
    """Cut images, (B, C, H, W), into square patches, (B, N, side * side * C), row by row."""
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // side, side, width // side, side)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def without_patches(patches: Tensor, size: int) -> Tensor:
    """Put patches, (B, N, side * side * C), together to images, (B, C, size, size)."""
    batch, count, pixels = patches.shape
    along = math.isqrt(count)
    side = size // along
    cut = patches.reshape(batch, along, along, side, side, pixels // side**2)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, size, size)


def _side(patches: Tensor, images: Tensor) -> int:
    """Pixels along a side of a patch, of patches (B, N, P) of images (B, C, H, W)."""
    return math.isqrt(patches.shape[2] // images.shape[1])


def _moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sd of the pixels of each patch, (B, N, 1)."""
    variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
    return mean, (variance + _LEAST_VARIANCE).sqrt()


def _probed(outputs: Arrays, classes: Sequence[str]) -> tuple[Scores, list[str]]:
    """Macro AUC and accuracy of the linear probe: means over its folds; none without labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    by_id = np.argsort(outputs["ids"])  # whatever the order, the folds are the same
    targets, features = outputs["targets"][by_id], outputs["features"][by_id].astype(np.float64)
    features, targets = features[targets >= 0], targets[targets >= 0]
    present, numbers, counts = np.unique(targets, return_inverse=True, return_counts=True)
    if len(present) < 2 or counts.min() < _FOLDS:
        lacking = f"of two classes or more, {_FOLDS} or more of each"
        return {}, [f"no linear probe, which needs labelled images {lacking}"]
    names = [classes[k] for k in present]
    scores = []
    for fitted, scored in StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(
        features, numbers
    ):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_STEPS))
        probe.fit(features[fitted], numbers[fitted])
        logits = probe.predict_log_proba(features[scored])
        scores.append(metrics.classification_scores(numbers[scored], logits, names)[0])
    return {f"probe_{name}": _mean([s[name] for s in scores]) for name in ("auc", "accuracy")}, []


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
