"""Rays are traced by few operations, none of which waits, in whatever memory there is."""

from __future__ import annotations

import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch.utils._python_dispatch import TorchDispatchMode

from deeplense_batch.simulation import rays
from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.rays import Tracer, optics, render
from deeplense_batch.simulation.scenes import as_batch, draw_scenes
from deeplense_batch.simulation.substructure import Substructure

# Launches of a GPU for a batch, whatever its size; a preset without substructure is last. They
# were twice as many, and grew with the batch, when masses and small numbers came one by one.
MOST_LAUNCHES = {"common_test_1": 320, "parity": 300, "varied": 300, "null": 155}


class Operations(TorchDispatchMode):
    """Counts what is computed on a device, and sees the types that are multiplied as matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.on: Counter[str] = Counter()
        self.products: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if isinstance(result, torch.Tensor) and not views:
            self.on[result.device.type] += 1
        if any(name in str(func) for name in ("mm", "matmul", "conv", "addmv", "dot")):
            self.products |= {a.dtype for a in args if isinstance(a, torch.Tensor)}
        return result


def drawn(name: str, count: int) -> dict[str, torch.Tensor]:
    streams = [np.random.default_rng([4, i]) for i in range(count)]
    scenes = draw_scenes(PRESETS[name], [i % 3 for i in range(count)], streams)
    return optics(PRESETS[name], as_batch(scenes))


@pytest.mark.parametrize("name", MOST_LAUNCHES)
def test_a_batch_takes_few_launches_whatever_its_size(name):
    """Counted on the meta device, which stands for any but the CPU; to wait is an error on it."""
    found = []
    for times in (1, 4):
        batch = {name: torch.cat([values] * times) for name, values in drawn(name, 12).items()}
        tracer = Tracer(PRESETS[name], 150, torch.device("meta"))
        list(tracer.pieces(batch))  # what is kept between batches is there
        with Operations() as operations:
            (images,) = tracer.pieces(batch)
        assert images.shape == (12 * times, 150, 150)
        found.append(operations.on)
    assert found[0] == found[1]
    assert 100 < found[0]["meta"] <= MOST_LAUNCHES[name]
    assert found[0]["cpu"] <= 21  # the one copy, and what it is made of


def test_many_halos_take_launches_by_their_numbers():
    """5,500 and 22,000 halos, in pieces of 33 million numbers; one by one they were 70,000."""
    found = []
    for times in (1, 4):
        batch = {n: torch.cat([values] * times) for n, values in drawn("physical", 12).items()}
        tracer = Tracer(PRESETS["physical"], 150, torch.device("meta"))
        list(tracer.pieces(batch))
        with Operations() as operations:
            list(tracer.pieces(batch))
        found.append(operations.on)
    assert found[0]["meta"] <= 520 and found[1]["meta"] <= 1100
    assert found[0]["cpu"] == found[1]["cpu"] <= 21


@pytest.mark.parametrize("name", PRESETS)
def test_no_setting_of_tf32_changes_an_image(name):
    """Nor could it on a GPU: it concerns products of float32 alone, of which there is none."""
    content = Substructure(name, size=64)
    with Operations() as operations:
        plain = content.make("train", range(6), seed=2)
    assert operations.products == {torch.float64}
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # bfloat16, even on a processor that has it
        other = content.make("train", range(6), seed=2)
    finally:
        torch.set_float32_matmul_precision(before)
    assert (other.images == plain.images).all() and (other.scale == plain.scale).all()


class Activation:
    """Something that a computation holds while it runs."""


@pytest.mark.parametrize(("fits", "asked", "halved"), [(5, 12, 3), (3, 12, 3), (1, 5, 1)])
def test_a_batch_that_does_not_fit_is_halved(fits, asked, halved, monkeypatch):
    """Memory is tidied when what did not fit is gone, and the next batch begins with the half."""
    whole, lost, tidied = rays._rendered, [], []

    def scripted(preset, batch, size, device):
        activation = Activation()
        if len(batch["radius"]) > fits:
            lost.append(weakref.ref(activation))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(preset, batch, size, device)

    monkeypatch.setattr(rays, "_rendered", scripted)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: tidied.append(lost[-1]()))
    batch, tracer = drawn("varied", asked), Tracer(PRESETS["varied"], 32, torch.device("cpu"))
    pieces = list(tracer.pieces(batch))
    assert torch.equal(torch.cat(pieces), whole(PRESETS["varied"], batch, 32, torch.device("cpu")))
    assert {len(piece) for piece in pieces[:-1]} == {halved} and tracer.room.most == halved
    assert len(tidied) == len(lost) > 0 and tidied == [None] * len(tidied)
    list(tracer.pieces(batch))
    assert len(lost) == len(tidied)  # nothing was tried again that does not fit


def test_one_image_that_does_not_fit_is_said(monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rays, "_rendered", full)
    with pytest.raises(torch.OutOfMemoryError):
        list(Tracer(PRESETS["varied"], 32, torch.device("cpu")).pieces(drawn("varied", 4)))


def test_large_images_are_fewer_at_once():
    on = torch.device("meta")
    most = [Tracer(PRESETS["varied"], size, on).room.most for size in (64, 150, 512, 2048)]
    assert most == [256, 256, 32, 2]


def test_images_with_halos_and_a_vortex_have_both():
    """No class has, but scenes may; each sum is that of images with one of them alone."""
    preset = PRESETS["common_test_1"]
    streams = [np.random.default_rng(i) for i in range(2)]
    halo, line = draw_scenes(preset, [1, 2], streams)
    share = halo["substructure_fraction"]
    both = halo | {"vortex": line["vortex"], "substructure_fraction": share}
    none = halo | {"halos": 0 * halo["halos"]}
    x, y = (
        torch.linspace(-2, 2, 40, dtype=torch.float64).view(s) for s in ((1, 1, -1), (1, -1, 1))
    )
    alpha = [
        rays.deflection(preset, as_batch([scene]), x, y)[0]
        for scene in (both, halo, none | {"vortex": line["vortex"]}, none)
    ]
    assert torch.allclose(alpha[0] + alpha[3], alpha[1] + alpha[2], atol=1e-12)
    assert not torch.allclose(alpha[0], alpha[1])


def a_scene(preset, target=0):
    return as_batch(draw_scenes(preset, [target], [np.random.default_rng(6)]))


def axes(*along):
    line = torch.tensor(along, dtype=torch.float64)
    return line.view(1, 1, -1), line.view(1, -1, 1)


@pytest.mark.parametrize("target", range(3))
def test_the_line_of_sight_adds_its_tides(target):
    tides = {"lens.los_convergence": 0.05, "lens.los_shear": 0.03}
    preset = with_overrides(PRESETS["varied"], tides)
    scene = a_scene(preset, target)
    kappa, g1, g2 = scene["los"][0].tolist()
    assert kappa == pytest.approx(0.05) and np.hypot(g1, g2) == pytest.approx(0.03)
    x, y = axes(-1.7, -0.4, 0.3, 1.6)
    without = {name: values for name, values in scene.items() if name != "los"}
    for field in (rays.deflection, rays.lens_deflection):
        found, before = field(preset, scene, x, y), field(preset, without, x, y)
        added = (kappa + g1) * x + g2 * y, g2 * x + (kappa - g1) * y
        for one, other, expected in zip(found, before, added, strict=True):
            assert torch.allclose(one - other, expected.expand_as(one), rtol=0, atol=1e-15)


@pytest.mark.parametrize("kappa", [-0.1, 0.0, 0.1])
def test_the_ring_of_a_round_lens_grows_with_the_convergence(kappa):
    changes = {"lens.q": 1.0, "lens.shear": 0.0, "lens.los_convergence": kappa}
    preset = with_overrides(PRESETS["benchmark"], changes)
    scene = a_scene(preset)

    def source_of(radius: float) -> float:
        return radius - float(rays.deflection(preset, scene, *axes(radius))[0])  # on the diagonal

    ring = np.sqrt(2) * brentq(source_of, 0.5, 2.0, xtol=1e-12)
    assert ring == pytest.approx(1.2815 / (1 - kappa), rel=1e-6)


def test_convergence_is_another_lens_of_another_source():
    """beta over 1 - kappa is that of theta_e and shears over it: no image tells kappa."""
    tides = {"lens.los_convergence": 0.08, "lens.los_shear": 0.02}
    scene = a_scene(with_overrides(PRESETS["null"], tides))
    los = scene.pop("los")
    factor = 1 / (1 - los[0, 0])
    source = scene["source"].clone()
    source[:, :3] *= factor
    other = {"theta_e": scene["theta_e"] * factor, "source": source}
    other |= {"shear": (scene["shear"] + los[:, 1:]) * factor}
    first, second, bare = (
        render(PRESETS["null"], one, 64) for one in (scene | {"los": los}, scene | other, scene)
    )
    assert torch.allclose(first, second, rtol=1e-6)
    assert not torch.allclose(first, bare, rtol=1e-2)


def test_a_preset_renders_on_another_device_by_its_name():
    scenes = as_batch(draw_scenes(PRESETS["null"], [0], [np.random.default_rng(0)]))
    assert render(PRESETS["null"], scenes, 64, device="meta").dtype == torch.float64
