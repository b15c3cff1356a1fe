"""Networks with physics in them: the equations hold, and what is published is told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, make_job
from tiny_networks import PHYSICS, physics_network
from torch import Tensor, nn

from deeplense_batch.core.job import JobError
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import open_split
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.macro import (
    in_unit,
    macro_convergence,
    macro_deflection,
    macro_of_truth,
    pixel_grid,
)
from deeplense_batch.lensing.source_plane import relens, splat
from deeplense_batch.models import build
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.rays import render, source_light
from deeplense_batch.simulation.scenes import without_substructure
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Frame, Task

READS = ("theta_e", "lens", "shear")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Simulated lenses with their truth."""
    root = tmp_path_factory.mktemp("varied")
    simulate("substructure", root, preset="varied", images=60, seed=3)
    return root


@pytest.fixture(scope="module")
def batch(root) -> Batch:
    split = open_split(root, "train")
    transform = Transform(100, 50, "linear")
    loader = Loader(split, transform=transform, device=torch.device("cpu"), truths=READS)
    loader.transform = loader.measured()
    places = np.arange(8)
    images, targets, index = next(loader.batches([places]))
    return Batch(images, targets, index, truth=loader.truth_of(index))


def task_for(batch: Batch, **options: float) -> Task:
    """The task for those images, which has seen their lenses."""
    frame = Frame(1, batch.images.shape[-1], 0.1)
    task = build_task("physics_guided", classes=CLASSES, frame=frame, **options)
    truth = {name: values.double().numpy() for name, values in batch.truth.items()}
    task.fit_statistics(batch.targets.numpy(), truth)
    return task


class Oracle(nn.Module):
    """Gives what `lens_pinn` would give, of lenses that are known."""

    def __init__(self, lens: Tensor) -> None:
        super().__init__()
        self.lens = nn.Parameter(lens.clone())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, y = pixel_grid(images.shape[-1], images)
        alpha = macro_deflection(self.lens, x, y)
        beta = torch.stack(torch.broadcast_tensors(x, y), 1) - alpha
        again = relens(splat(images, beta, images.shape[-1]), beta)
        return {
            "logits": torch.zeros(len(images), 3),
            "parameters": self.lens,
            "deflection": alpha,
            "correction": torch.zeros_like(alpha),
            "convergence": macro_convergence(self.lens, x, y),
            "image": images,
            "smooth": again,
            "relensed": again,
        }


# --- The contract of a network with physics


@pytest.mark.parametrize("size", [64, 150])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PHYSICS)
def test_shapes(name, channels, size):
    model = physics_network(name, channels, size).eval()
    with torch.inference_mode():
        output = model(torch.randn(2, channels, size, size))
    assert output["logits"].shape == (2, 3)
    for key, values in output.items():
        assert len(values) == 2 and torch.isfinite(values).all(), key
    assert model.get_classifier() is not None


@pytest.mark.parametrize("name", PHYSICS)
def test_every_parameter_learns(name, batch):
    torch.manual_seed(0)
    model = physics_network(name, size=50)
    losses = task_for(batch).losses(model, batch, 0.5)
    losses["loss"].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    parts = [losses[term] for term in losses if term not in ("loss", "cross_entropy")]
    assert parts and losses["loss"] > losses["cross_entropy"]


@pytest.mark.parametrize("name", PHYSICS)
def test_a_seed_gives_one_network_and_one_output(name):
    images = torch.randn(2, 1, 64, 64)
    logits = []
    for _ in range(2):
        torch.manual_seed(1)
        logits.append(physics_network(name)(images)["logits"])
    assert torch.equal(*logits)


# --- The equations


def test_the_true_lens_gives_the_image_and_the_source_back(root):
    """Noise-free images of smooth lenses; a lens that is wrong does neither."""
    preset, split = PRESETS["varied"], open_split(root, "train[:6]")
    stored = {name: torch.from_numpy(split.truth(name)) for name in split.truths()}
    scenes = without_substructure(stored)
    image = render(preset, scenes, 150)[:, None].float()
    image = image / image.amax((2, 3), keepdim=True)
    lens = in_unit(macro_of_truth(*(scenes[n].float() for n in READS)), 3.75)
    x, y = pixel_grid(150, image)
    places = torch.stack(torch.broadcast_tensors(x, y), 1)
    seen = source_light(preset, scenes, *(v.float() for v in fine_grid(150, 0.05, 1)))

    def compare(factor: float) -> tuple[float, float]:
        beta = places - macro_deflection(lens * (1 + (factor - 1) * (torch.arange(7) == 0)), x, y)
        source = splat(image, beta, 150)
        residual = (relens(source, beta) - image).square().mean().sqrt()
        rays = splat(torch.ones_like(image), beta, 150)[:, 0] > 0
        bright = rays & (seen > 0.05 * seen.amax((1, 2), keepdim=True))
        found, true = source[:, 0][bright], seen[bright] / seen.max()
        return float(residual), float(np.corrcoef(found, true)[0, 1])

    residual, likeness = compare(1.0)
    wrong_residual, wrong_likeness = compare(1.15)
    assert residual < 0.01 and likeness > 0.9
    assert wrong_residual > 5 * residual and wrong_likeness < likeness


# --- The task


def test_perfect_numbers_have_no_error(batch):
    task = task_for(batch)
    oracle = Oracle(in_unit(macro_of_truth(*(batch.truth[n] for n in READS)), task.half_frame))
    losses = task.losses(oracle, batch, 0.0)
    assert losses["deflection"].item() < 1e-9 and losses["parameters"].item() < 1e-9
    with torch.no_grad():
        outputs = {k: v.numpy() for k, v in task.predict(oracle, batch).items()}
    scores, notes = task.score(outputs | {"targets": batch.targets.numpy()})
    assert scores["deflection_error"] < 1e-5 and scores["einstein_radius_error"] < 1e-5
    assert scores["einstein_radius_nmad"] < 1e-5 and abs(scores["einstein_radius_bias"]) < 1e-5
    assert scores["convergence_correlation"] == pytest.approx(1, abs=1e-4)
    assert 0.1 < scores["deflection_error_of_mean"] < 0.5
    assert not any("physics" in note for note in notes)
    figures = task.draw(outputs | {"targets": batch.targets.numpy()}, [])
    assert "einstein_radius" in figures


def test_the_mean_lens_scores_as_the_mean(batch):
    task = task_for(batch)
    mean = torch.tensor(task.state_dict()["mean_lens"]).expand(len(batch.images), 7)
    frame = Frame(1, batch.images.shape[-1], 0.1)
    other = build_task("physics_guided", classes=CLASSES, frame=frame)
    other.load_state_dict(task.state_dict())
    with torch.no_grad():
        predicted = other.predict(Oracle(in_unit(mean, task.half_frame)), batch)
    outputs = {k: v.numpy() for k, v in predicted.items()}
    scores, _ = other.score(outputs | {"targets": batch.targets.numpy()})
    assert scores["deflection_gain"] == pytest.approx(1, abs=1e-4)


def test_errors_are_in_arcsec(batch):
    """A lens too large by 0.1 arcsec deflects by 0.1 arcsec too much, but for its ellipticity."""
    task = task_for(batch)
    lens = macro_of_truth(*(batch.truth[n] for n in READS))
    lens[:, 0] += 0.1
    with torch.no_grad():
        predicted = task.predict(Oracle(in_unit(lens, task.half_frame)), batch)
    outputs = {k: v.numpy() for k, v in predicted.items()}
    scores, _ = task.score(outputs | {"targets": batch.targets.numpy()})
    assert scores["einstein_radius_error"] == pytest.approx(0.1, abs=1e-5)
    assert scores["deflection_error"] == pytest.approx(0.1, rel=0.05)


def test_every_term_reaches_the_head_of_the_numbers(batch):
    torch.manual_seed(0)
    model = physics_network("lens_pinn", size=50)
    terms = ("deflection", "parameters", "relensing", "compactness")
    for term in terms:
        losses = task_for(batch).losses(model, batch, 0.0)
        (slope,) = torch.autograd.grad(losses[term], [model.head[-1].weight])
        assert slope.abs().sum() > 0, term


def test_a_lens_that_is_right_is_better_than_one_that_is_not(batch):
    """The least of the supervised terms, and of the source's extent beside no deflection."""
    task = task_for(batch)
    lens = in_unit(macro_of_truth(*(batch.truth[n] for n in READS)), task.half_frame)
    found = {}
    for factor in (1e-3, 0.8, 1.0, 1.2):
        scaled = lens.clone()
        scaled[:, 0] *= factor
        found[factor] = task.losses(Oracle(scaled), batch, 0.0)
    for term in ("deflection", "parameters"):
        assert min(found, key=lambda factor: found[factor][term].item()) == 1.0
    relensing = {factor: losses["relensing"].item() for factor, losses in found.items()}
    assert relensing[1.0] < min(relensing[0.8], relensing[1.2])
    assert relensing[1e-3] < relensing[1.0]  # the trivial least value, as documented


def test_the_loss_of_seed_002(batch):
    model = physics_network("lens_vit_pinn", size=50).eval()
    task = task_for(batch)
    losses = task.losses(model, batch, 0.0)
    output = model(batch.images)
    image, theta_e = output["intensity"], output["alpha"].mean((1, 2, 3))[:, None, None, None]
    assert image.min() == 0 and image.max() == 1
    assert torch.allclose(output["theta_s"], (image - theta_e * (image > 0)).clamp(0, 49))
    term = (output["theta_s"] - (image - output["alpha"])).square().mean()
    assert losses["intensity"].item() == pytest.approx(term.item(), rel=1e-5)
    total = losses["cross_entropy"].item() + 0.01 * term.item()
    assert losses["loss"].item() == pytest.approx(total, rel=1e-5)
    images = batch.images.clone()
    images[:, :, :9, :9] = 0.0  # flat, where an explanation needs a gradient none the less
    images.requires_grad_()
    sloped = physics_network("lens_vit_pinn", size=50, slope=True).eval()(images)["intensity"]
    assert sloped.shape == image.shape and not torch.equal(sloped, image)
    sloped.sum().backward()
    assert images.grad is not None and torch.isfinite(images.grad).all()


def test_the_loss_of_seed_003(batch):
    model, task = physics_network("physics_resnet50").eval(), task_for(batch)
    late, early = (task.losses(model, batch, p)["scalar"] for p in (1.0, 0.0))
    weights = [0.1 + 0.4 / (1 + np.exp(-10 * (p - 0.5))) for p in (1.0, 0.0)]
    assert (late / early).item() == pytest.approx(weights[0] / weights[1], rel=1e-5)
    assert model(batch.images)["angle"].abs().max() <= 1


def test_a_plain_network_is_a_plain_classifier(batch):
    model = build("test_resnet", channels=1, classes=3, size=50).eval()
    plain = build_task("classification", classes=CLASSES).losses(model, batch, 0.0)
    task = task_for(batch)
    assert torch.equal(task.losses(model, batch, 0.0)["loss"], plain["loss"])
    with torch.no_grad():
        outputs = {k: v.numpy() for k, v in task.predict(model, batch).items()}
    _, notes = task.score(outputs | {"targets": batch.targets.numpy()})
    assert any("gives no lens" in note for note in notes)
    pinn = physics_network("lens_pinn", size=50)
    assert build_task("classification", classes=CLASSES).losses(pinn, batch, 0.0)["loss"] > 0


def test_data_without_truth_are_classified_and_that_is_said(batch):
    task = build_task("physics_guided", classes=CLASSES, frame=Frame(1, 50, float("nan")))
    task.fit_statistics(batch.targets.numpy(), {})
    bare = Batch(batch.images, batch.targets, batch.index)
    losses = task.losses(physics_network("lens_pinn", size=50), bare, 0.0)
    assert "deflection" not in losses and "relensing" in losses
    with torch.no_grad():
        predicted = task.predict(physics_network("lens_pinn", size=50).eval(), bare)
    outputs = {k: v.numpy() for k, v in predicted.items()}
    scores, notes = task.score(outputs | {"targets": batch.targets.numpy()})
    assert "deflection_error" not in scores
    assert any("these images have no truth/theta_e" in note for note in notes)


def test_refusals(batch, root, tmp_path):
    with pytest.raises(ValueError, match="relensing: should be 0 or more"):
        build_task("physics_guided", classes=CLASSES, relensing=-1)
    blind = build_task("physics_guided", classes=CLASSES, frame=Frame(1, 50, float("nan")))
    truth = {name: values.double().numpy() for name, values in batch.truth.items()}
    with pytest.raises(ValueError, match=r"no pixel scale, which .*--pixel_scale"):
        blind.fit_statistics(batch.targets.numpy(), truth)
    fields = {"task": {"name": "physics_guided"}, "model": {"name": "lens_pinn"}}
    still = {"augment": {"blur": 0.5, "dihedral": False}}
    for data, train, told in (
        ({"augment": {"flips": True}}, {}, "data.augment.flips"),
        ({"augment": {"scale": (0.9, 1.1)}}, {}, "data.augment.scale"),
        (still | {"tta": True}, {}, "data.tta"),
        (still, {"mixup": 0.2}, "train.mixup"),
    ):
        with pytest.raises(JobError, match=f"{told}: task physics_guided compares images"):
            plan([make_job(root, **fields, data=data, train=train)], tmp_path)
    with pytest.raises(JobError, match="39 of 150 x 150 pixels lie half a pixel off"):
        plan([make_job(root, **fields, data=still | {"crop": 39})], tmp_path)
    assert plan([make_job(root, **fields, data=still | {"crop": 40})], tmp_path)


def test_a_plain_task_reaches_every_parameter(batch, monkeypatch):
    """Several processes wait for the gradients of all, and a head may have no say in the class."""
    model = physics_network("physics_resnet50", size=50)
    task = build_task("classification", classes=CLASSES, frame=Frame(1, 50, 0.05))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    task.losses(model, batch, 0.0)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not any(p.grad.any() for p in model.angle.parameters())


def test_images_may_be_moved_where_no_truth_is_used(shards, root, batch, tmp_path):
    fields = {"task": {"name": "physics_guided"}, "model": {"name": "lens_pinn"}}
    assert plan([make_job(shards, **fields)], tmp_path)
    fields["task"]["options"] = {"truth": False}
    assert plan([make_job(root, **fields, data={"tta": True})], tmp_path)
    losses = task_for(batch, truth=False).losses(physics_network("lens_pinn", size=50), batch, 0.0)
    assert "deflection" not in losses and "compactness" in losses


def test_a_run_scores_the_lens_beside_the_class(root, tmp_path):
    job = make_job(
        root,
        task={"name": "physics_guided"},
        model={"name": "lens_pinn", "options": PHYSICS["lens_pinn"]},
        data={"augment": {"dihedral": False}, "crop": 100, "size": 50},
        train={"epochs": 1},
    )
    (item,) = plan([job], tmp_path)
    run(item, device="cpu")
    metrics = json.loads((item.run.path / "metrics.json").read_text())
    scores = metrics["test"]["scores"]
    assert {"auc", "deflection_error", "deflection_gain"} <= set(scores)
    assert scores["deflection_gain"] == pytest.approx(
        scores["deflection_error_of_mean"] / scores["deflection_error"]
    )
    assert (item.run.figures / "einstein_radius.png").exists()
    told = item.run.read_lines("history.jsonl")[0]["train"]
    assert {"loss", "cross_entropy", "deflection", "relensing"} <= set(told)
