"""Made ahead or one by one: the same images in the same order, and nothing is left over."""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import closing
from itertools import count

import numpy as np
import pytest
import torch
from conftest import wait_for
from test_workers import below, is_running

from deeplense_batch.core.distributed import DeviceError
from deeplense_batch.data.shards import data_digest
from deeplense_batch.simulation import pipeline
from deeplense_batch.simulation.pipeline import ahead, made_ahead
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.simulation.substructure import Substructure
from deeplense_batch.simulation.workers import Workers

SETS = [("substructure", {"preset": name}) for name in PRESETS]
SETS += [("diffusion", {}), ("super_resolution", {})]


@pytest.fixture
def through(monkeypatch):
    """Substructure sets are made by the pipeline, as beside a GPU, with some processes."""

    def by(processes: int, *, at_once: bool = False) -> None:
        def stream(self, asked, *, seed):
            return made_ahead(self, asked, seed=seed, processes=processes)

        def ready(self) -> bool:
            wait_for(lambda: was_ready(self))
            return True

        was_ready = Workers.ready
        monkeypatch.setattr(Substructure, "stream", stream)
        if at_once:  # else it depends on their start how many batches are theirs
            monkeypatch.setattr(Workers, "ready", ready)

    return by


def asked(maker: Substructure, images: int) -> list[tuple[str, range]]:
    step = maker.batch
    return [("train", range(first, min(first + step, images))) for first in range(0, images, step)]


def same(a, b) -> None:
    assert (a.images == b.images).all() and (a.scale == b.scale).all()
    for name, values in a.truth.items():
        assert np.array_equal(values, b.truth[name], equal_nan=True), name


@pytest.mark.parametrize(("kind", "options"), SETS, ids=str)
def test_a_small_set_is_that_of_the_plain_way(kind, options, tmp_path, through):
    """So few images are made in this process, batches together and noise by threads."""
    plain = simulate(kind, tmp_path / "a", images=60, size=32, shard_size=20, **options)
    through(2)
    piped = simulate(kind, tmp_path / "b", images=60, size=32, shard_size=25, **options)
    assert piped.digest == plain.digest == data_digest(tmp_path / "b")


@pytest.mark.parametrize(
    ("kind", "preset"),
    [("substructure", "common_test_1"), ("substructure", "physical"),
     ("super_resolution", "hsc_hst")],
)  # fmt: skip
def test_a_set_of_processes_is_that_of_one(kind, preset, tmp_path, through, monkeypatch):
    options = {"images": 400, "size": 32, "shard_size": 70, "preset": preset}
    plain = simulate(kind, tmp_path / "a", **options)
    here = []
    monkeypatch.setattr(pipeline, "_made_here", lambda *_: here.append(1))
    monkeypatch.setattr(pipeline, "_TOGETHER", 24)
    through(2, at_once=True)
    piped = simulate(kind, tmp_path / "b", **options)
    assert piped.digest == plain.digest and piped.made == 400 and not here
    again = simulate(kind, tmp_path / "b", **options)
    assert (again.made, again.digest) == (0, plain.digest)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_set_of_a_gpu_is_that_of_the_processor(tmp_path, monkeypatch):
    was_ready = Workers.ready
    monkeypatch.setattr(Workers, "ready", lambda self: wait_for(lambda: was_ready(self)) or True)
    for preset in ("common_test_1", "physical"):
        options = {"images": 1500, "size": 64, "preset": preset}
        found = [
            simulate("substructure", tmp_path / f"{preset} {device}", device=device, **options)
            for device in ("cpu", "cuda")
        ]
        assert found[0].digest == found[1].digest


def test_what_is_cut_off_goes_on_and_no_process_is_left(tmp_path, through, monkeypatch):
    options = {"images": 300, "size": 32, "shard_size": 50}
    plain = simulate("substructure", tmp_path / "a", **options)
    monkeypatch.setattr(pipeline, "_TOGETHER", 24)
    through(2, at_once=True)
    before, begun = set(below(os.getpid())), set()

    def stop() -> None:
        begun.update(set(below(os.getpid())) - before)
        if len(list((tmp_path / "b" / ".parts").glob("*.h5"))) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        simulate("substructure", tmp_path / "b", on_batch=stop, **options)
    assert len(begun) == 3 and not any(map(is_running, begun))
    assert "made ahead" not in {thread.name for thread in threading.enumerate()}
    rest = simulate("substructure", tmp_path / "b", **options)
    assert rest.digest == plain.digest and rest.made == 200


def test_an_error_in_a_process_ends_the_set_with_its_sentence(tmp_path, through, monkeypatch):
    monkeypatch.setattr(pipeline, "_TOGETHER", 8)
    through(1, at_once=True)
    with pytest.raises(ValueError, match="counts from 0 to"):
        simulate("substructure", tmp_path, images=120, size=32, set_={"source.intensity": 1e9})
    assert not list(tmp_path.glob(".parts/*.h5"))


def test_how_a_batch_is_made_depends_on_their_start_and_its_bits_do_not(monkeypatch):
    """The first batches are made here, until the processes are there."""
    monkeypatch.setattr(pipeline, "_TOGETHER", 16)
    looks = iter([False, False])
    was_ready = Workers.ready

    def ready(self) -> bool:
        if next(looks, True):
            wait_for(lambda: was_ready(self))
            return True
        return False

    monkeypatch.setattr(Workers, "ready", ready)
    maker = Substructure(size=32)
    wanted = asked(maker, 100)
    found = list(made_ahead(maker, wanted, seed=1, processes=1))
    assert len(found) == len(wanted) == 13
    for (split, indices), batch in zip(wanted, found, strict=True):
        same(maker.make(split, indices, seed=1), batch)
    assert [batch.digests is None for batch in found] == [True] * 4 + [False] * 9


def test_memory_that_cannot_be_pinned_is_told_in_a_sentence(monkeypatch):
    def refuse(_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    class Library:
        def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
            return 2

    monkeypatch.setattr(torch.cuda, "cudart", Library)
    monkeypatch.setattr(torch.cuda, "check_error", refuse)
    says = pytest.raises(DeviceError, match=r"3 MB of memory cannot be pinned .* out of memory")
    with says, pipeline._pinned(mmap.mmap(-1, 3 << 20), torch.device("cuda")):
        pass


class TestAhead:
    def test_all_items_come_in_order(self):
        assert list(ahead((i for i in range(50)), 3)) == [*range(50)]

    def test_no_more_are_made_than_may_wait(self):
        made = []

        def items():
            for number in count():
                made.append(number)
                yield number

        with closing(ahead(items(), 4)) as some:
            assert next(some) == 0
            wait_for(lambda: len(made) == 6)  # one was given, four wait, and one finds no room

    def test_an_error_comes_after_the_items_before_it(self):
        def items():
            yield 1
            raise KeyError("two")

        some = ahead(items(), 8)
        assert next(some) == 1
        with pytest.raises(KeyError, match="two"):
            next(some)

    def test_to_close_it_closes_what_it_reads(self):
        closed = threading.Event()

        def items():
            try:
                yield from count()
            finally:
                closed.set()

        some = ahead(items(), 2)
        next(some)
        some.close()
        assert closed.is_set() and "made ahead" not in {t.name for t in threading.enumerate()}
