"""What the training loop, the verbs and the report count on, of every task in the table."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import make_job
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional

from deeplense_batch.models import build, checkpoint
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.tasks import TASKS, build_task
from deeplense_batch.tasks.task import Batch, Frame, Task, Unit

SAMPLES, SIZE = 12, 32
PINN = {"encoder": "test_resnet", "classifier": "test_resnet", "width": 8}
MASKED = {"encoder": "test_vit", "decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2}
EDSR = {"width": 8, "blocks": 1}
UNET = {"radius": True, "width": 8, "multiples": [1, 2], "blocks": 1}


@dataclass(frozen=True)
class Case:
    """A task with classes, options and a network that fit."""

    name: str
    classes: tuple[str, ...] = ("no", "sphere", "vort")
    options: dict[str, Any] = field(default_factory=dict)
    model: str = "test_resnet"
    model_options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *self.options])

    def task(self) -> Task:
        frame = Frame(1, SIZE, 0.1, ratio=2)
        return build_task(self.name, classes=self.classes, frame=frame, **self.options)

    def network(self, task: Task) -> nn.Module:
        torch.manual_seed(0)
        network = build(
            self.model, channels=1, classes=task.spec.num_outputs, size=SIZE, ratio=2,
            **self.model_options,
        )  # fmt: skip
        return task.wrap(network).eval()


CASES = (
    Case("classification"),
    Case("classification", options={"label_smoothing": 0.1, "focal": 2.0}),
    Case("classification", options={"adapt": {"to": {"root": "b"}, "by": "dann"}}),
    Case("detection", classes=("nonlenses", "lenses")),
    Case("regression"),
    Case("regression", options={"target": "theta_e", "log10": False}),
    Case("regression", options={"targets": ["theta_e", "axion_mass_ev"], "log10": True}),
    Case("regression", options={"targets": ["theta_e", "lens.q"], "posterior": "gaussian"}),
    Case("regression", options={"posterior": "flow"}),
    Case("physics_guided", model="lens_pinn", model_options=PINN),
    Case("physics_guided", options={"truth": False}, model="lens_pinn", model_options=PINN),
    Case("generation", options={"conditions": ["class", "theta_e"], "ssim": 0.3}, model="unet",
         model_options=UNET),
    Case("generation", options={"conditions": ["input"], "residual": True}, model="unet",
         model_options=UNET | {"radius": False, "inputs": True}),
    Case("masked", model="masked_autoencoder", model_options=MASKED),
    Case("masked", options={"norm_pix": False, "mask_ratio": 0.5}, model="masked_autoencoder",
         model_options=MASKED),
    Case("restoration", model="edsr", model_options=EDSR),
    Case("restoration", options={"loss": "mse", "ssim": 0.3, "residual": True}, model="edsr",
         model_options=EDSR),
)  # fmt: skip


def test_the_cases_cover_the_table():
    assert {case.name for case in CASES} == set(TASKS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_but_a_generator_and_masking_answer_for_single_images(case):
    assert case.task().spec.predicts == (case.name not in ("generation", "masked"))


answering = pytest.mark.parametrize(
    "case", [case for case in CASES if case.name != "generation"], ids=str
)


@pytest.fixture(params=CASES, ids=str)
def case(request) -> Case:
    return request.param


@pytest.fixture
def task(case) -> Task:
    task = case.task()
    truth = {name: truth_of(name) for name in task.spec.truth_keys}
    task.fit_statistics(targets_of(case), truth)
    if task.spec.needs_inputs:
        task.fit_images([batch_for(case, task)], Unit((0.5,), (2.0,)))
    return task


def targets_of(case: Case) -> np.ndarray:
    return np.arange(SAMPLES) % len(case.classes)


def truth_of(name: str) -> np.ndarray:
    """Truth as the shards of a simulation hold it, (SAMPLES, ...) float64."""
    random = np.random.default_rng(len(name))
    middle = random.normal(0, 0.05, (SAMPLES, 2))
    shape = np.stack([random.uniform(0.6, 0.95, SAMPLES), random.uniform(0, 3, SAMPLES)], 1)
    mass = 10 ** random.uniform(-24, -22, SAMPLES)
    mass[::5] = np.nan  # images without an axion
    return {
        "theta_e": random.uniform(0.5, 0.8, SAMPLES),
        "lens": np.concatenate([middle, shape], 1),
        "shear": random.normal(0, 0.05, (SAMPLES, 2)),
        "axion_mass_ev": mass,
    }[name]


def batch_for(case: Case, task: Task, places: np.ndarray | None = None) -> Batch:
    """Some samples of the slice, by default all; they are the same in every batch."""
    places = np.arange(SAMPLES) if places is None else places
    images = torch.randn(SAMPLES, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    truth = {name: torch.from_numpy(truth_of(name)).float() for name in task.spec.truth_keys}
    index = torch.from_numpy(places)
    inputs = functional.avg_pool2d(images, 2)[index] if task.spec.needs_inputs else None
    return Batch(
        images[index],
        torch.from_numpy(targets_of(case))[index],
        index,
        draws=index + 1_000_003 if task.spec.draws else None,
        truth={name: values[index] for name, values in truth.items()},
        inputs=inputs,
        unlabelled=images.flip(0)[index] if "adapt" in case.options else None,
    )


def outputs_of(case: Case, task: Task, *parts: np.ndarray) -> dict[str, np.ndarray]:
    """What the network says of the slice, predicted in parts, as it is gathered and saved."""
    network = case.network(task)
    with torch.inference_mode():
        found = [task.predict(network, batch_for(case, task, part)) for part in parts]
    outputs = {name: torch.cat([one[name] for one in found]).numpy() for name in found[0]}
    places = np.concatenate(parts)
    return outputs | {"ids": places.astype(str), "targets": targets_of(case)[places]}


WHOLE = np.arange(SAMPLES)


def test_the_spec_is_frozen_and_says_what_the_methods_do(case, task):
    spec = task.spec
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.monitor = "another"
    outputs = outputs_of(case, task, WHOLE)
    assert np.isfinite(outputs[spec.primary_output]).all()
    assert spec.monitor in task.score(outputs)[0]
    if spec.classifies:
        assert outputs[spec.primary_output].shape == (SAMPLES, spec.num_outputs)
    assert spec.calibrates == (type(task).calibrate is not Task.calibrate)
    assert spec.truth_keys or not (spec.needs_truth or spec.fixed_geometry)
    assert task.classes == case.classes
    json.dumps(dataclasses.asdict(spec))


def test_options_are_checked_before_the_classes_are_known(case):
    task = build_task(case.name, classes=None, **case.options)
    known = case.task().spec
    fields = {"num_outputs": known.num_outputs, "target_name": known.target_name}
    assert replace(task.spec, **fields) == known
    with pytest.raises(ValueError, match=rf"task\.options\.colour: unknown to {case.name}; allow"):
        build_task(case.name, classes=None, colour="red")


def trainable(case: Case, task: Task) -> np.ndarray:
    """Places of the samples that are learnt from."""
    truth = {name: truth_of(name) for name in task.spec.truth_keys}
    mask = task.trainable_mask(targets_of(case), truth)
    assert mask.shape == (SAMPLES,) and mask.dtype == bool
    return np.flatnonzero(mask)


def test_losses_are_finite_and_reach_the_network(case, task):
    network = case.network(task)
    losses = task.losses(network, batch_for(case, task, trainable(case, task)), 0.3)
    assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
    losses["loss"].backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


@answering  # diffusion draws its noise for a whole piece of a batch
def test_a_loss_is_the_mean_over_its_samples(case, task):
    """So that micro-batches of any size make one step."""
    network, places = case.network(task), trainable(case, task)
    parts = places[:3], places[3:]
    with torch.no_grad():
        whole, *pieces = (
            task.losses(network, batch_for(case, task, part), 0.3) for part in (places, *parts)
        )
    for name, value in whole.items():
        mean = sum(len(part) * piece[name] for part, piece in zip(parts, pieces, strict=True))
        assert value.item() == pytest.approx(mean.item() / len(places), rel=1e-4), name


def test_weights_and_partners_count_where_the_spec_says_so(case, task):
    batch, network = batch_for(case, task, trainable(case, task)), case.network(task)
    weights = torch.linspace(0.2, 1.8, len(batch.targets))
    losses = []
    for changed in ({}, {"weights": weights}, {"partners": batch.targets.roll(1), "share": 0.3}):
        torch.manual_seed(0)
        with torch.no_grad():
            losses.append(float(task.losses(network, replace(batch, **changed), 0.3)["loss"]))
    assert [loss != losses[0] for loss in losses[1:]] == [task.spec.mixes_labels] * 2


def test_what_is_predicted_is_scored_and_drawn(case, task):
    outputs = outputs_of(case, task, WHOLE)
    assert all(len(values) == SAMPLES for values in outputs.values())
    scores, notes = task.score(outputs)
    assert all(value is None or math.isfinite(value) for value in scores.values())
    assert all(isinstance(note, str) for note in notes)
    assert 0 < task.num_scored(outputs) <= SAMPLES
    epoch = {"epoch": 1, "train": {"loss": 1.0}, "valid": scores}
    drawn = task.draw(outputs, [epoch])
    assert "history" in drawn and all(isinstance(figure, Figure) for figure in drawn.values())
    plt.close("all")


def test_a_sample_is_scored_alike_in_any_batch(case, task):
    whole, split = (outputs_of(case, task, *parts) for parts in ([WHOLE], [WHOLE[:5], WHOLE[5:]]))
    for name, values in whole.items():
        if values.dtype.kind == "f":
            assert np.allclose(values, split[name], rtol=1e-4, atol=1e-5, equal_nan=True), name
    expected, _ = task.score(whole)
    shuffled = np.random.default_rng(0).permutation(SAMPLES)
    for outputs in (split, {name: values[shuffled] for name, values in whole.items()}):
        scores, _ = task.score(outputs)
        assert scores.keys() == expected.keys()
        for name, score in scores.items():
            assert score == (
                expected[name] and pytest.approx(expected[name], rel=1e-3, abs=1e-5)
            ), name


def test_what_was_fitted_and_calibrated_is_kept_beside_the_weights(case, task, tmp_path):
    outputs = outputs_of(case, task, WHOLE)
    before = copy.deepcopy(task.state_dict())
    task.calibrate(outputs)
    assert task.spec.calibrates == (task.state_dict() != before)
    checkpoint.save(tmp_path / "best.pt", {"task": task.state_dict()})
    again = case.task()
    again.load_state_dict(checkpoint.load(tmp_path / "best.pt")["task"])
    assert again.state_dict() == task.state_dict()
    repeated = outputs_of(case, again, WHOLE)
    assert all(np.array_equal(repeated[k], v, equal_nan=v.dtype.kind == "f")
               for k, v in outputs.items())  # fmt: skip
    assert again.score(repeated) == task.score(outputs)


@answering
def test_images_without_label_and_truth_have_an_answer(case, task):
    """As `predict` meets them."""
    bare = replace(batch_for(case, task), targets=torch.full((SAMPLES,), -1), truth={})
    with torch.inference_mode():
        predicted = task.predict(case.network(task), bare)
    assert torch.isfinite(predicted[task.spec.primary_output]).all()


BRIGHTNESS = '''
from torch.nn import functional
from deeplense_batch.core.scoring import figures
from deeplense_batch.tasks.task import Task, TaskSpec


class Brightness(Task):
    """The mean of an image."""

    def __init__(self, *, classes, factor: float = 1.0):
        spec = TaskSpec(monitor="score", num_outputs=1, primary_output="brightness")
        super().__init__(spec, classes)
        self.factor = factor

    def losses(self, model, batch, progress):
        true = self.factor * batch.images.mean((1, 2, 3))
        return {"loss": functional.mse_loss(model(batch.images).float()[:, 0], true)}

    def predict(self, model, batch):
        true = self.factor * batch.images.mean((1, 2, 3))
        return {"brightness": model(batch.images).float()[:, 0], "true": true}

    def score(self, outputs):
        error = float(((outputs["brightness"] - outputs["true"]) ** 2).mean())
        return {"loss": error, "score": -error}, []

    def draw(self, outputs, history):
        return {"history": figures.history(history)}
'''


def test_a_new_task_is_one_file_and_its_row(shards, tmp_path, monkeypatch):
    (tmp_path / "brightness.py").write_text(BRIGHTNESS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(TASKS, "brightness", "brightness:Brightness")
    section = {"name": "brightness", "options": {"factor": 2.0}}
    job = make_job(shards, task=section, train={"epochs": 3, "batch_size": 16})
    (item,) = plan([job], tmp_path / "runs")
    scores = run(item, device="cpu")
    epochs = item.run.read_lines("history.jsonl")
    assert scores["loss"] == -scores["score"] < epochs[0]["train"]["loss"]
    assert np.load(item.run.path / "outputs.npz")["brightness"].shape == (54,)
    sys.modules.pop("brightness")
