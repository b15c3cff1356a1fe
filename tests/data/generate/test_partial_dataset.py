"""The shards of a set while it is made: what counts, what is swept, and how they are joined."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

import pytest
from made_generator import Numbers

from deeplense_batch.data.generate.partial_dataset import PartialDataset, clear
from deeplense_batch.data.shards import ShardError, open_split, read_splits

SHARDS = [("train", 0), ("train", 1), ("val", 0)]
OPTIONS = {
    "shape": Numbers.shape, "stored": Numbers.stored, "dtype": Numbers.dtype,
    "classes": Numbers.classes, "source": "tests", "seed": 0,
}  # fmt: skip


def begun(root, plan="a"):
    """The set, begun; its manifest is empty."""

    def finish() -> None:
        (root / "manifest.json").write_text("{}")

    return PartialDataset(root, plan={"plan": plan}, shards=SHARDS, finish=finish)


def write(work, shard, *, broken_off=False):
    split, number = shard
    made = Numbers().make(split, [2 * number, 2 * number + 1], seed=0)
    with work.writing(shard, **OPTIONS) as writer:
        ids = [f"{split}/{number}/{i}" for i in range(2)]
        writer.append(made.images, targets=[0, 1], ids=ids, scale=made.scale, truth=made.truth)
        if broken_off:
            raise RuntimeError("broken off")


def test_a_shard_counts_when_it_is_written_whole(tmp_path):
    work = begun(tmp_path)
    assert work.missing() == SHARDS
    write(work, ("train", 1))
    assert work.missing() == [("train", 0), ("val", 0)]
    assert work.path_of(("train", 1)).name == "train-00001.h5"
    with pytest.raises(RuntimeError, match="broken off"):
        write(work, ("val", 0), broken_off=True)
    assert work.missing() == [("train", 0), ("val", 0)]
    assert not [path for path in (tmp_path / ".parts").iterdir() if path.is_dir()]


@pytest.mark.parametrize("links", [True, False])
def test_a_shard_that_two_processes_make_is_that_of_the_first(tmp_path, monkeypatch, links):
    """The late one does not replace a shard that has the attributes of its split by now."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    work, shard = begun(tmp_path), ("val", 0)
    with work.writing(shard, **OPTIONS) as late:
        made = Numbers().make("val", [0, 1], seed=0)
        late.append(made.images, targets=[0, 1], ids=["a", "b"], scale=made.scale,
                    truth=made.truth)  # fmt: skip
        work.path_of(shard).write_bytes(b"joined")
    assert work.path_of(shard).read_bytes() == b"joined"
    assert [path.name for path in (tmp_path / ".parts").iterdir() if path.is_dir()] == []


def test_shards_are_joined_by_the_process_that_makes_the_last(tmp_path):
    work, seen = begun(tmp_path), []
    work.complete(SHARDS, lambda shards: [write(work, s) for s in shards], lambda: seen.append(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.json", "train-00000-of-00002.h5", "train-00001-of-00002.h5",
        "val-00000-of-00001.h5",
    ]  # fmt: skip
    assert len(seen) == 3
    split = open_split(tmp_path, "train")
    assert split.info.class_counts == (2, 2) and split.truth("index").tolist() == [0, 1, 2, 3]
    assert {info.name for info in read_splits(tmp_path).values()} == {"train", "val"}


def test_the_shards_of_processes_that_ended_are_swept_and_others_are_kept(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    begun(tmp_path)
    host = socket.gethostname()
    left = [f"train-00000.{host}.{ended.pid}", f"train-00001.{host}.{os.getpid()}",
            f"train-00001.elsewhere.{ended.pid}", f"val-00000.{host}.x"]  # fmt: skip
    for name in left:
        (tmp_path / ".parts" / name).mkdir()
    begun(tmp_path)
    kept = {path.name for path in (tmp_path / ".parts").iterdir() if path.is_dir()}
    assert kept == set(left[1:])


def test_another_set_is_not_gone_on_with(tmp_path):
    begun(tmp_path)
    with pytest.raises(ShardError, match=r"another simulation was begun here .* remove .*\.parts"):
        begun(tmp_path, "b")
    clear(tmp_path)
    assert not (tmp_path / ".parts").exists()
    begun(tmp_path, "b")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train-00000-of-00001.h5").touch()
    with pytest.raises(ShardError, match="holds shards already"):
        begun(tmp_path / "other")
