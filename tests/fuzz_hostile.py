"""Pack hostile sources at random: ``python tests/fuzz_hostile.py COUNT SEED``.

Each is a small good set, in a folder or a zip, with up to three hostile or damaged files in it,
packed by a child process with options drawn at random. It must end with 0 or 3, without a
traceback, within 20 s and 1 GB of memory; what is packed must verify.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hostile_sources import ODD, claimed, fits, make_source, npy, png, savez, zipped
from PIL import Image

from deeplense_batch.__main__ import main
from deeplense_batch.data.digest import verify
from deeplense_batch.data.shards import read_splits

SECONDS = 20
MEGABYTES = 1024

Random = np.random.Generator


def picture(random: Random, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (12, 12)).astype("u1")).save(file, kind)
    return file.getvalue()


def cut(data: bytes, random: Random) -> bytes:
    """Damage data: cut them, flip a bit, or overwrite some."""
    content = bytearray(data)
    at = int(random.integers(len(content)))
    how = random.integers(3)
    if how == 0:
        return bytes(content[:at])
    if how == 1:
        content[at] ^= 1 << int(random.integers(8))
    else:
        content[at : at + 16] = random.bytes(16)
    return bytes(content)


def nested(random: Random) -> bytes:
    """A zip in a zip, in which zeros lie."""
    data = bytes(100 << 20)
    for name in ("inner.npy", "inner.npz"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        data = file.getvalue()
    return data


def odd_values(random: Random) -> bytes:
    base = random.random((12, 12))
    scale = 10.0 ** random.integers(-320, 39)
    choices = [base * scale, base * 1e-17, 1e6 + base, base * np.nan, base * 0, base - np.inf]
    choices += [base.astype(complex), base > 0.5, base.astype("U5"), base[None, None, None]]
    choices += [base[:0], base[0], np.float64(1), (base * 2**62).astype("u8"), base.astype(">f2")]
    with np.errstate(all="ignore"):
        return npy(choices[int(random.integers(len(choices)))])


SHAPES = ["(10**5, 10**5)", "(-1,)", "(-1, 4)", "(0, 0)", "(1 << 62, 1 << 62)", "()", "'a'", "x"]
SHAPES += ["(2**63, 2**63)", "(9" + ",9" * 60 + ")", "(10**9, 0)", "((3, 3), 3)", "(1.5, 2)", ""]
TYPES = ["<f8", "<f4", "|O", "V99999999", "<U9999999", "zz", "<m8[s]", "|b1", "<f16", "i4,f8"]
FILES: dict[str, Callable[[Random], bytes]] = {
    "0.npy": lambda r: cut(npy(r.random((12, 12))), r),
    "1.npy": lambda r: claimed(r.choice(SHAPES), r.choice(TYPES)),
    "2.npy": odd_values,
    "3.npy": lambda r: npy(np.array([{}, 1], object)),
    "4.npz": lambda r: cut(savez(image=r.random((12, 12))), r),
    "5.npz": lambda r: savez(image=np.zeros(70 << 20, "u1")),
    "6.npz": lambda r: savez(images=r.random((3, 12, 12)), labels=r.choice([1, 5, -7], 3)),
    "7.npz": nested,
    "8.png": lambda r: cut(picture(r, "PNG"), r),
    "9.png": lambda r: png(9000, 9000),
    "10.tif": lambda r: cut(picture(r, "TIFF"), r),
    "11.fits": lambda r: cut(fits(12), r),
    "12.fits.gz": lambda r: cut(gzip.compress(fits(12)), r),
    "13.fits.gz": lambda r: gzip.compress(bytes(80 << 20), 1),
    "14.npy": lambda r: r.bytes(int(r.integers(200))),
    "15.png": lambda r: r.bytes(int(r.integers(200))),
    "16.fits": lambda r: fits(12).replace(b"12", str(10 ** int(r.integers(3, 30))).encode()[-2:]),
}
FLAGS = [
    [],
    ["--skip_bad"],
    ["--skip_bad"],
    ["--skip_bad"],
    ["--dtype=float16"],
    ["--dtype=float32"],
    ["--pixel_scale=0.05"],
]
FLAGS += [["--compression=gzip"], ["--max_expansion=1"], ["--shard_size=1"], ["--seed=9"]]


def make(root: Path, random: Random) -> tuple[Path, str]:
    """A source, and what is hostile in it."""
    names = [str(n) for n in random.choice(sorted(FILES), int(random.integers(1, 4)))]
    make_source(root, {f"train/a/{name}": FILES[name](random) for name in names})
    if random.random() < 0.4:
        with contextlib.suppress(Exception):
            path = zipped(root, root.with_suffix(".zip"))
            if random.random() < 0.5:
                names.append("zip damaged")
                path.write_bytes(cut(path.read_bytes(), random))
            return path, " ".join(names)
    if random.random() < 0.4:
        kind = str(random.choice(sorted(ODD)))
        places = ["train/a/odd.npy", "train/odd", "odd.csv", "train/c"]
        place = root / str(random.choice(places))
        if kind != "a folder" or place.parent.name == "a":
            ODD[kind](place)
            names.append(f"{kind} {place.name}")
    return root, " ".join(names)


def child(source: Path, out: Path, flags: list[str], log: Path) -> None:
    """Pack as a person would; the exit code of this process is that of the program."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = 1
    try:
        main(["pack", str(source), str(out), *flags])
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    most = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    if most - before > MEGABYTES << 10:
        print(f"took {(most - before) >> 10} MB")
        code = 99
    sys.stdout.flush()
    os._exit(code)


def fuzz(count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Pack `count` sources; gives how often each exit code came, and what should not have."""
    outcomes: Counter[str] = Counter()
    wrong = []
    for i in range(count):
        random = np.random.default_rng([seed, i])
        source, what = make(folder / "source", random)
        flags = FLAGS[int(random.integers(len(FLAGS)))]
        log, out = folder / "log", folder / "out"
        context = multiprocessing.get_context("fork")
        process = context.Process(target=child, args=(source, out, flags, log))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        text = log.read_text(errors="replace")
        kind = str(process.exitcode)
        if kind == "0":
            for info in read_splits(out).values():
                verify(info)
        outcomes[kind] += 1
        if kind not in ("0", "3") or "Traceback" in text or (kind == "3" and out.exists()):
            wrong.append(f"{i}: {what} {flags}: {kind}\n{text[-2000:]}")
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return outcomes, wrong


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found, bad = fuzz(int(sys.argv[1]), int(sys.argv[2]), Path(place))
    print(dict(found), *bad, sep="\n")
    sys.exit(bool(bad))
