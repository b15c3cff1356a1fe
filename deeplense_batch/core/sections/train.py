"""What a recipe says of a training: what it starts from, and how weights move."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from deeplense_batch.core.sections import Section, list_of

__all__ = ["TrainSection"]

# Fields that recipes of earlier versions lack: at their defaults they are no part of an identity.
_LATER = ("layer_decay", "settled")


class TrainSection(Section):
    """How it is learnt."""

    # start from the weights of a run directory, of the run of the same model and seed in
    # runs/JOB, or of a file: .pt, .pth, .ckpt or .safetensors. A network starts from the masked
    # autoencoder whose encoder it is, or restores images with
    init: str | None = None
    epochs: int = Field(15, ge=1)  # passes over the training slice
    batch_size: int = Field(64, ge=1)  # images a step, over all processes and micro-batches
    # images at once on a process; null: all of its batch, halved when memory runs out
    micro_batch: int | None = Field(None, ge=1)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"  # adam has L2 decay, adamw decoupled
    lr: float = Field(3e-4, gt=0)  # learning rate
    head_lr: float | None = Field(None, gt=0)  # learning rate of the classifier; null: lr
    # learning rate of a layer times this for each layer above it, by timm's layers of the network:
    # 0.75; null: all layers learn at one rate
    layer_decay: float | None = Field(None, gt=0, le=1)
    # parameters that are not trained, by the start of their names: [conv1, layer1]
    freeze: Annotated[tuple[str, ...], list_of("texts")] = ()
    weight_decay: float = Field(0.01, ge=0)  # not applied to biases and norms
    # of the learning rate; plateau multiplies it by 0.2 after 3 epochs without a better score
    schedule: Literal["constant", "cosine", "onecycle", "plateau"] = "plateau"
    warmup: float = Field(0.0, ge=0)  # epochs of linear warm-up
    patience: int | None = Field(None, ge=1)  # stop after this many epochs without a better score
    clip: float | None = Field(None, gt=0)  # largest norm of the gradient
    # alpha of mixup's Beta distribution; 0 is off. For tasks that learn classes, as `weights` is
    mixup: float = Field(0.0, ge=0)
    # of rare classes: weigh their loss, or draw them more often
    balance: Literal["none", "weights", "sampler"] = "none"
    # decay of an exponential average of the weights, which is then what is scored: 0.999
    ema: float | None = Field(None, gt=0, lt=1)
    # precision of training, scores are always made in float32; auto takes bf16 where the GPU
    # has it, else fp16
    amp: Literal["off", "bf16", "fp16", "auto"] = "off"
    sync_bn: bool = False  # batch-norm statistics over all processes; on GPUs
    # the last epochs in which batch norms use the mean and variance that they keep, as when
    # scored, and not those of the batch, whose noise makes error bars too wide
    settled: int = Field(0, ge=0)

    def identifying(self) -> dict[str, Any]:
        """The fields that change the result of a run, as JSON."""
        fields = type(self).model_fields
        later = {name for name in _LATER if getattr(self, name) == fields[name].default}
        return self.model_dump(mode="json", exclude=later)
