"""Networks that images are looked at with: a trained classifier of ours, and Inception."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.data.augment import central_crop
from deeplense_batch.inference.trained import Logits, Trained, TrainedError
from deeplense_batch.models import INCEPTION
from deeplense_batch.models.weights import backbone, weights_file

__all__ = ["Critic", "Floats", "Images", "inception"]

Images = NDArray[np.float32]
Floats = NDArray[np.float64]

_BATCH = 64
_SIZE = 299  # pixels that Inception was trained on
_BLACK, _WHITE = 0.001, 0.999  # shares of the pixels below


class Critic:
    """A finished classifier that looks at the images of another run.

    They are prepared as its own were: cropped to its field of view, if theirs is wider, then
    stretched, normalised and resized.

    Arguments:
        trained: The classifier.
        of: The run whose images, as its network sees them, are looked at.
        device: Where.

    Raises:
        TrainedError: It is no classifier, does not know the classes, or sees a wider field or
            other channels than the images have.
    """

    def __init__(self, trained: Trained, of: Trained, device: torch.device) -> None:
        where = f"evaluate.classifier: {trained.run.path}"
        if not trained.classifies:
            raise TrainedError(f"{where}: its task, {trained.job.task.name}, tells no classes")
        unknown = [name for name in of.classes if name not in trained.classes]
        if unknown:
            raise TrainedError(
                f"{where}: knows no class '{unknown[0]}', which the images have; it knows "
                f"{', '.join(trained.classes)}"
            )
        if trained.shape[0] != of.shape[0]:
            raise TrainedError(
                f"{where}: takes {trained.shape[0]} channels, the images have {of.shape[0]}"
            )
        share = trained.field / of.field
        if np.isfinite(trained.pixel_scale) and np.isfinite(of.pixel_scale):
            share *= trained.pixel_scale / of.pixel_scale
        #: Central pixels of the images that it sees.
        self.kept = round(share * of.input_shape[1])
        if self.kept > of.input_shape[1]:
            raise TrainedError(
                f"{where}: sees a field {share:.3g} times as wide as the images show; train one "
                "on the crop of theirs"
            )
        self.trained, self._device = trained, device
        self._network = Logits(trained.model.to(device).eval())
        self._transform = replace(trained.transform, size=trained.input_shape[1])

    def __call__(self, images: Images) -> tuple[Floats, Floats]:
        """Look at images.

        Arguments:
            images: Values as packed, (N, C, H, W).

        Returns:
            Features, (N, D): the input of the network's last linear layer; and logits, (N, K).
        """
        seen: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[:] = [inputs[0]]

        def look(part: Tensor) -> Tensor:
            logits = self._network(self._transform(central_crop(part, self.kept)))
            if not seen:
                raise TrainedError(
                    f"evaluate.classifier: {self.trained.run.path}: its network has no linear "
                    "layer, whose input would be its features"
                )
            return torch.cat([seen[0].flatten(1), logits], 1)

        layers = [m for m in self._network.modules() if isinstance(m, nn.Linear)]
        hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
        try:
            outputs = _outputs_of(look, images, self._device)
        finally:
            for hook in hooks:
                hook.remove()
        count = len(self.trained.classes)
        return outputs[:, :-count], outputs[:, -count:]

    def numbers(self, targets: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.int64]:
        """Its own numbers of the classes that another run gives `targets`, (N,)."""
        own = np.array([self.trained.classes.index(name) for name in classes])
        return own[targets]


def inception(like: Images, device: torch.device) -> Callable[[Images], Floats]:
    """Features of Inception v3 with torchvision's published weights, 2,048 an image.

    They are not the weights of published FIDs, which come from TensorFlow. Images become grey,
    from black at the darkest 0.1% of the pixels of `like` to white at the brightest.

    Raises:
        WeightsError: The weights were not fetched.
    """
    weights_file(INCEPTION)  # before a network of that size is built
    network = backbone(INCEPTION, pretrained=True, num_classes=0).eval().to(device)
    black, white = np.quantile(like.mean(1), (_BLACK, _WHITE))
    mean, sd = (
        torch.tensor(network.pretrained_cfg[name], device=device)[:, None, None]
        for name in ("mean", "std")
    )

    def look(part: Tensor) -> Tensor:
        grey = ((part.mean(1, keepdim=True) - black) / (white - black)).clamp(0, 1)
        large = functional.interpolate(grey, (_SIZE, _SIZE), mode="bilinear", antialias=True)
        return network((large - mean) / sd)

    return lambda images: _outputs_of(look, images, device)


@torch.inference_mode()
def _outputs_of(look: Callable[[Tensor], Tensor], images: Images, device: torch.device) -> Floats:
    """Outputs of a network for images, a few at a time, (N, D)."""
    outputs = [
        look(torch.from_numpy(images[first : first + _BATCH]).to(device)).cpu().double().numpy()
        for first in range(0, len(images), _BATCH)
    ]
    return np.concatenate(outputs)
