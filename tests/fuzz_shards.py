"""Damage shards at random, and read them: ``python tests/fuzz_shards.py COUNT SEED``.

A child process describes, verifies and reads each damaged set. It must give the right data or a
`ShardError`; never a crash, a hang, another error, or wrong data that `verify` lets through. Bytes
of format 1 are spared: it has no digest of them, and HDF5 itself may crash there.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from format_1 import to_format_1

from deeplense_batch.data.digest import verify
from deeplense_batch.data.shards import ShardError, data_digest, open_split, read_splits
from deeplense_batch.data.writer import ShardWriter

SECONDS = 20
ODD = (0, -1, 3.5, np.nan, "x", b"\xff", [1, 2], ["a"], [], h5py.Empty("f4"), np.ones((2, 2)))


def make(root: Path, compression: str | None) -> None:
    """Two splits of a few images, of one and of two files."""
    for split, count in (("train", 9), ("val", 4)):
        random = np.random.default_rng(count)
        with ShardWriter(
            root, split=split, shape=(2, 6, 6), stored=np.dtype("u2"), dtype=np.dtype("f8"),
            classes=("no", "vort"), source="fuzz", seed=0, pixel_scale=0.05, shard_size=5,
            compression=compression,
        ) as writer:  # fmt: skip
            writer.append(
                random.integers(1, 900, (count, 2, 6, 6)).astype("u2"),
                targets=np.arange(count) % 2, ids=[f"{split}/{i}" for i in range(count)],
                scale=np.full((count, 2), 899.0), truth={"theta_e": np.arange(count) / 8},
            )  # fmt: skip
            writer.publish()


def read(root: Path) -> str:
    """Names all that a task could read of a set."""
    digest = hashlib.sha256()
    for name, info in sorted(read_splits(root).items()):
        verify(info)
        split = open_split(root, f"{name}[0:]")
        arrays = split.images(), split.targets(), *map(split.truth, sorted(split.truths()))
        digest.update(b"".join(array.tobytes() for array in arrays))
        # Format 1 leaves the pixels' width out of its digest, so that it cannot be checked.
        facts = [name, info.classes, info.dtype.name, info.class_counts, split.ids()]
        digest.update(json.dumps(facts).encode())
    return f"{data_digest(root)} {digest.hexdigest()}"


def damage_bytes(path: Path, random: np.random.Generator) -> str:
    """Flip, overwrite, cut, insert or repeat bytes."""
    content = bytearray(path.read_bytes())
    at, length = int(random.integers(len(content))), int(random.integers(1, 64))
    kind = str(random.choice(["flip", "zero", "noise", "cut", "insert", "repeat", "swap"]))
    if kind == "flip":
        content[at] ^= 1 << int(random.integers(8))
    elif kind == "zero":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == "noise":
        content[at : at + length] = random.bytes(len(content[at : at + length]))
    elif kind == "cut":
        del content[at:]
    elif kind == "insert":
        content[at:at] = random.bytes(length)
    elif kind == "repeat":
        content += content[at:]
    else:
        content = content[at:] + content[:at]
    path.write_bytes(content)
    return f"{kind} at {at}"


def damage_content(path: Path, random: np.random.Generator) -> str:
    """Change an attribute or an array through HDF5."""
    with h5py.File(path, "r+") as file:
        if random.random() < 0.6:
            name = str(random.choice(sorted(file.attrs)))
            if random.random() < 0.3:
                del file.attrs[name]
                return f"no attribute {name}"
            value = ODD[int(random.integers(len(ODD)))]
            file.attrs[name] = value
            return f"attribute {name} = {value!r}"
        name = str(random.choice([*file, "truth/theta_e"]))
        how = str(random.choice(["lost", "soft", "external", "short", "type", "shape", "value"]))
        values = None if name == "truth" else file[name][()]
        if name == "truth" or how in ("lost", "soft", "external"):
            del file[name]
            if how == "soft":
                file[name] = h5py.SoftLink("/ids")
            elif how == "external":
                file[name] = h5py.ExternalLink("other.h5", "/x")
            return f"{name}: {how}"
        if how == "value" and values.dtype.kind != "O":
            file[name][0] = values[0] + 1
            return f"{name}: another value"
        del file[name]
        changed = {"short": values[:-1], "type": np.arange(len(values), dtype="f4")}
        file[name] = changed.get(how, values.reshape(1, *values.shape))
        return f"{name}: {how}"


def child(root: Path, pipe: multiprocessing.connection.Connection) -> None:
    """Read a set, and tell what came of it."""
    try:
        pipe.send(("read", read(root)))
    except ShardError as error:
        pipe.send(("refused", str(error)))
    except BaseException as error:
        pipe.send((type(error).__name__, str(error)))


def try_one(root: Path) -> tuple[str, str]:
    """What a child process makes of a set."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(root, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(SECONDS) else ("hang", "")
    except EOFError:
        process.join()
        return "crash", str(process.exitcode)
    finally:
        process.kill()
        process.join()


def fuzz(count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Damage `count` sets; gives how often what came of it, and what should not have."""
    kinds = [(form, packed) for form in (2, 1) for packed in (None, "gzip")]
    expected = {}
    for form, packed in kinds:
        make(folder / f"{form}{packed}", packed)
        if form == 1:
            to_format_1(folder / f"{form}{packed}")
        expected[form, packed] = read(folder / f"{form}{packed}")
    outcomes: Counter[str] = Counter()
    wrong = []
    for i in range(count):
        random = np.random.default_rng([seed, i])
        form, packed = kinds[int(random.integers(len(kinds)))]
        root = Path(shutil.copytree(folder / f"{form}{packed}", folder / "set"))
        paths = sorted(root.iterdir())
        path = paths[int(random.integers(len(paths)))]
        hurt = damage_bytes if form == 2 and random.random() < 0.6 else damage_content
        what = hurt(path, random)
        kind, told = try_one(root)
        if kind == "read" and told != expected[form, packed]:
            kind = "wrong data"
        outcomes[kind] += 1
        if kind not in ("read", "refused") or (kind == "refused" and "\n" in told):
            wrong.append(f"{i}: format {form} {packed}, {path.name}: {what}: {kind} {told}")
        shutil.rmtree(root)
    return outcomes, wrong


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found, bad = fuzz(int(sys.argv[1]), int(sys.argv[2]), Path(place))
    print(dict(found), *bad, sep="\n")
    sys.exit(bool(bad))
