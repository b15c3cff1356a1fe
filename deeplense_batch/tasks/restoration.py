"""Better images of poorer ones: super-resolution, and the removal of noise, learnt from pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.core.scoring import figures
from deeplense_batch.core.scoring.images.seen import seen_scores
from deeplense_batch.data.pixels.transform import noise_of
from deeplense_batch.tasks.restoring import lens_physics, pictures
from deeplense_batch.tasks.restoring.baselines import BASELINES, NOISE_FREE, Fitted, enlarged
from deeplense_batch.tasks.restoring.quality import MEASURES, key, quality
from deeplense_batch.tasks.similarity import WINDOW, ssim_of_each
from deeplense_batch.tasks.task import Arrays, Batch, Frame, Scores, Task, TaskSpec, Unit

__all__ = ["Restoration"]

_LOSSES = ("l1", "mse")
_METHODS = {"restored": "", "fitted": "fitted"}  # of images whose physics is measured
_SHOWN = (1.0, 0.75, 0.5, 0.25, 0.0)  # quantiles of the gain: the best image first
_SHOW = "shown_"  # begins the names of the images that are kept


class Restoration(Task):
    """Learn to make an image of its input; judged by PSNR on the image as it is.

    The values of both are normalised by one mean and sd. Scores are in the units of the set, by
    one data range for all images; PSNR is the mean over the images of the PSNR of each.

    Arguments:
        classes: Class names; not used.
        frame: The images.
        loss: ``l1`` or ``mse``, of normalised values.
        ssim: Share of the loss that is 1 - SSIM, window 11, sigma 1.5.
        residual: The network gives what is to be added to the fitted bicubic image.
        data_range: Of the set, in its units, for PSNR and SSIM; by default largest minus smallest
            value of the images of the training slice.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        frame: Frame | None = None,
        loss: str = "l1",
        ssim: float = 0.0,
        residual: bool = False,
        data_range: float | None = None,
    ) -> None:
        if loss not in _LOSSES:
            raise ValueError(f"task.options.loss: got {loss!r}; allowed: {', '.join(_LOSSES)}")
        if not 0 <= ssim <= 1:
            raise ValueError(f"task.options.ssim: expected a share from 0 to 1, got {ssim!r}")
        if data_range is not None and not 0 < data_range < math.inf:
            raise ValueError(f"task.options.data_range: expected above 0, got {data_range!r}")
        if frame is not None and frame.size < WINDOW:
            raise ValueError(f"task restoration: SSIM needs {WINDOW} pixels, got {frame.size}")
        spec = TaskSpec(
            monitor="psnr",
            num_outputs=0,
            primary_output="psnr",
            needs_labels=False,
            needs_inputs=True,
            given_inputs=True,
            replayable=True,
        )
        super().__init__(spec, classes)
        self.loss, self.ssim, self.residual = loss, ssim, bool(residual)
        self.stated_range, self.frame = data_range, frame or Frame(1, WINDOW, math.nan)
        channels = self.frame.channels
        self.unit = Unit((0.0,) * channels, (1.0,) * channels)
        self.data_range = data_range or 1.0  # in units of the set
        self.noise_sd = 0.0  # of the mean of the channels, in units of the set; 0: none is known
        self.fitted = Fitted(channels)

    def fit_images(self, batches: Iterable[Batch], unit: Unit) -> None:
        """Fit the bicubic image to the pairs, and find the range and the noise of the set.

        Raises:
            ValueError: All values are the same.
        """
        self.unit, self.fitted = unit, Fitted(self.frame.channels)
        low, high, noise = math.inf, -math.inf, []
        for batch in batches:
            assert batch.inputs is not None
            self.fitted.add(batch.inputs, batch.images, self.frame.ratio)
            images = unit.undone(batch.images)
            low, high = min(low, float(images.min())), max(high, float(images.max()))
            noise.append(self._noise(batch, images))
        self.fitted.solve()
        known = np.concatenate(noise)
        known = known[np.isfinite(known)]
        self.noise_sd = float(np.median(known)) if len(known) else 0.0
        if self.stated_range is None and not high > low:
            raise ValueError(
                f"task.options.data_range: every pixel of the training slice is {low:g}, so that "
                "the set has no range; state one"
            )
        self.data_range = self.stated_range or high - low

    def _noise(self, batch: Batch, images: Tensor) -> NDArray[np.float64]:
        """The sd of the noise of images, (B,): of the sky, unless they are known without it."""
        if batch.clean is None:
            return noise_of(images.mean(1, keepdim=True).cpu().numpy())[:, 0]
        left = (images - self.unit.undone(batch.clean)).mean(1)
        return left.square().mean((1, 2)).sqrt().double().cpu().numpy()

    def state_dict(self) -> dict[str, Any]:
        unit = {"mean": list(self.unit.mean), "sd": list(self.unit.sd)}
        numbers = {"data_range": self.data_range, "noise_sd": self.noise_sd}
        return {"unit": unit, "fitted": self.fitted.stored(), **numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.unit = Unit(tuple(state["unit"]["mean"]), tuple(state["unit"]["sd"]))
        self.fitted = Fitted.of(state["fitted"])
        self.data_range, self.noise_sd = state["data_range"], state["noise_sd"]

    def losses(
        self, model: nn.Module, batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        restored, images = self._made(model, _inputs(batch)), batch.images
        error = restored - images
        pixels = error.abs().mean() if self.loss == "l1" else error.square().mean()
        if not self.ssim:
            return {"loss": pixels}
        with torch.autocast(images.device.type, enabled=False):  # fp16 has no room for its squares
            pair = self.unit.undone(restored), self.unit.undone(images)
            unlike = 1 - ssim_of_each(*pair, self.data_range).mean()
        loss = (1 - self.ssim) * pixels + self.ssim * unlike
        return {"loss": loss, self.loss: pixels, "unlike": unlike}

    def _made(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Restored images, (B, C, H, W), normalised."""
        made = model(inputs).float()
        return made + self.fitted(inputs, self.frame.ratio) if self.residual else made

    def restored(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Restored images, (B, C, H, W), in the units of the set.

        Arguments:
            model: The network.
            inputs: (B, C, h, w), normalised.
        """
        return self.unit.undone(self._made(model, inputs))

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The `MEASURES` of each restored image, (B,); and against the truth without noise."""
        return self._scored(batch, {"": self.restored(model, _inputs(batch))})

    def assess(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What `predict` gives, the same of every baseline, and the physics."""
        made = self._all(model, batch)
        truth = self._truths(batch).get("clean", self._truths(batch)[""])
        physics = lens_physics.measure(
            {name: made[method].cpu().numpy() for name, method in _METHODS.items()},
            truth.cpu().numpy(),
            self.noise_sd,
        )
        found = {name: torch.from_numpy(v).to(truth.device) for name, v in physics.items()}
        scored = self._scored(batch, made)
        if batch.clean is not None:  # what a perfect restoration without the noise would score
            truths = self._truths(batch)
            scored |= self._measured({NOISE_FREE: truths["clean"]}, {"": truths[""]})
        return scored | found

    def _all(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Images of the network, of an empty name, and of every baseline, in units of the set."""
        inputs, ratio = _inputs(batch), self.frame.ratio
        made = {how: enlarged(inputs, ratio, how) for how in BASELINES if how != "fitted"}
        made["fitted"] = self.fitted(inputs, ratio)
        undone = {how: self.unit.undone(images) for how, images in made.items()}
        return {"": self.restored(model, inputs), **undone}

    def _truths(self, batch: Batch) -> dict[str, Tensor]:
        truths = {"": self.unit.undone(batch.images)}
        if batch.clean is not None:
            truths["clean"] = self.unit.undone(batch.clean)
        return truths

    def _scored(self, batch: Batch, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._measured(made, self._truths(batch))

    def _measured(
        self, made: Mapping[str, Tensor], truths: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {
            key(measure, method, truth): values
            for method, images in made.items()
            for truth, against in truths.items()
            for measure, values in quality(images, against, self.data_range).items()
        }

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        methods = ("", *BASELINES, NOISE_FREE)
        names = [
            key(measure, how, truth)
            for truth in ("", "clean")
            for how in methods
            for measure in (MEASURES if not how else ("psnr", "ssim"))
        ]
        scores: Scores = {
            name: float(np.mean(outputs[name], dtype=np.float64))
            for name in names
            if name in outputs
        }
        scores = {"loss": scores["mse"]} | scores
        for truth in ("", "clean"):
            pair = key("psnr", "", truth), key("psnr", "fitted", truth)
            if all(name in outputs for name in pair):
                own, other = (np.asarray(outputs[name], np.float64) for name in pair)
                scores[key("gain", "", truth)] = float((own - other).mean())
        known = math.isfinite(self.frame.pixel_scale)
        width = self.frame.pixel_scale if known else 1.0
        for name, method in _METHODS.items():
            physics = lens_physics.summary(outputs, name, self.noise_sd, width)
            scores |= {key(what, method): value for what, value in physics.items()}
        return scores | seen_scores(outputs), self._notes(outputs, known)

    def _notes(self, outputs: Arrays, known: bool) -> list[str]:
        whence = (
            "as the recipe states"
            if self.stated_range
            else "largest minus smallest value of the images of the training slice"
        )
        notes = [
            f"PSNR and SSIM are by a data range of {self.data_range:.6g}, {whence}; PSNR is the "
            "mean over the images of that of each"
        ]
        if "ring_truth" in outputs and not known:
            notes.append("radii of rings are in pixels, whose width is not known")
        if "power_truth" in outputs and not self.noise_sd > 0:
            notes.append("no peaks are counted as invented or lost, as the images have no noise")
        return notes

    def chosen(self, outputs: Arrays) -> NDArray[np.int64]:
        if "psnr_fitted" not in outputs:
            return np.empty(0, np.int64)
        order = np.argsort(np.asarray(outputs["psnr"]) - outputs["psnr_fitted"], kind="stable")
        return np.array([order[round(q * (len(order) - 1))] for q in _SHOWN])

    def versions(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """``fitted``, ``restored``, ``truth`` and, if known, ``clean``, in units of the set.

        Each is (B, C, H, W).
        """
        made, truths = self._all(model, batch), self._truths(batch)
        found = {"fitted": made["fitted"], "restored": made[""], "truth": truths[""]}
        return found | ({"clean": truths["clean"]} if "clean" in truths else {})

    def images_of(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        shown = {"input": self.unit.undone(_inputs(batch))} | self.versions(model, batch)
        return {"shown": batch.index} | {f"{_SHOW}{name}": v for name, v in shown.items()}

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        scores = {"psnr": ("PSNR (dB)", "PSNR")}
        drawn = {"history": figures.history(history, scores, loss="training loss", alike=False)}
        if "shown" in outputs:
            shown = {n.removeprefix(_SHOW): v for n, v in outputs.items() if n.startswith(_SHOW)}
            gains = (np.asarray(outputs["psnr"]) - outputs["psnr_fitted"])[outputs["shown"]]
            names = [f"{gain:+.2f} dB" for gain in gains]
            drawn["restored"] = pictures.sheet(shown, self.noise_sd, names)
        if "power_truth" in outputs:
            size, scale = (self.frame.size, self.frame.size), self.frame.pixel_scale
            drawn["spectrum"] = pictures.spectrum(
                outputs, size, self.frame.ratio, scale, self.noise_sd
            )
            drawn["physics"] = pictures.physics(outputs, scale)
        return drawn


def _inputs(batch: Batch) -> Tensor:
    """What the network is given; a plan has seen that the images are pairs."""
    assert batch.inputs is not None
    return batch.inputs
