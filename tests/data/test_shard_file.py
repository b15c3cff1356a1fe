"""Who is killed while shards get their final names leaves half of a set, which nobody reads."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile_sources import make_source, npy

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shard_file import half_named
from deeplense_batch.data.shards import NAME, ShardError, data_digest, open_split, read_splits
from deeplense_batch.simulation.simulate import simulate

SET = {"images": 12, "size": 32, "shard_size": 2}


def killed_after(names: int, work: Callable[[], object]) -> None:
    """Do work in a child, which ends without a word when so many shards have their names."""

    def child() -> None:
        replace, named = Path.replace, []

        def counting(path: Path, target: Path) -> Path:
            if NAME.match(Path(target).name) and Path(target).parent.name == "out":
                if len(named) == names:
                    os._exit(9)
                named.append(target)
            return replace(path, target)

        Path.replace = counting
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 9


def shards_in(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*.h5") if NAME.match(path.name))


@pytest.fixture
def source(tmp_path) -> Path:
    random = np.random.default_rng(0)
    val = {f"val/{name}/0.npy": npy(random.random((12, 12))) for name in "ab"}
    return make_source(tmp_path / "source", val)


@pytest.mark.parametrize("names", [0, 1, 2, 4, 5])
def test_half_of_a_packing_is_no_set_and_the_next_packing_starts_it_over(tmp_path, source, names):
    out, whole = tmp_path / "out", pack(source, tmp_path / "whole", shard_size=1)
    killed_after(names, lambda: pack(source, out, shard_size=1))
    assert len(shards_in(out)) == names < len(shards_in(tmp_path / "whole"))
    for read in (read_splits, data_digest, lambda root: open_split(root, "train")):
        with pytest.raises(ShardError, match=r"these shards are not complete: .* pack or simul"):
            read(out)
    if names:
        with pytest.raises(ShardError, match="holds shards already"):
            simulate("substructure", out, **SET)
        assert len(shards_in(out)) == names
    assert pack(source, out, shard_size=1).digest == whole.digest
    assert half_named(out) is None and not list(out.glob(".*"))


def test_half_of_a_simulation_is_no_set_and_goes_on(tmp_path):
    out, whole = tmp_path / "out", simulate("substructure", tmp_path / "whole", **SET)
    killed_after(2, lambda: simulate("substructure", out, **SET))
    assert len(shards_in(out)) == 2
    with pytest.raises(ShardError, match="these shards are not complete"):
        read_splits(out)
    report = simulate("substructure", out, **SET)
    assert (report.digest, report.made) == (whole.digest, 0)
    assert not list(out.glob(".*"))


def test_a_set_with_its_manifest_is_complete_whatever_was_left_beside_it(tmp_path, source):
    out = tmp_path / "out"
    digest = pack(source, out).digest
    mark = json.dumps({"shards": shards_in(out), "by": "a process that was killed"})
    (out / ".naming.json").write_text(mark)
    assert data_digest(out) == digest
    before = {name: (out / name).read_bytes() for name in shards_in(out)}
    with pytest.raises(ShardError, match="holds shards already"):
        pack(source, out)
    assert {name: (out / name).read_bytes() for name in shards_in(out)} == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"by": "x"}', '{"by": "x", "shards": 3}'])
def test_a_damaged_mark_is_named_and_nothing_is_removed(tmp_path, source, content):
    out = tmp_path / "out"
    pack(source, out)
    (out / "manifest.json").unlink()
    (out / ".naming.json").write_text(content)
    kept = shards_in(out)
    with pytest.raises(ShardError, match=r"\.naming\.json: is damaged"):
        read_splits(out)
    with pytest.raises(ShardError, match=r"\.naming\.json: is damaged"):
        pack(source, out)
    assert shards_in(out) == kept
