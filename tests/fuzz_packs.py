"""Pack random sets with random faults: nothing is lost in silence, nothing ends in a traceback.

    python tests/fuzz_packs.py COUNT SEED

Each set has one layout, and its files may be wrapped, doubled, zipped, named oddly, split into
bands, damaged, or lie among junk. After each packing: the exit code is 0 or 3; every image that
was given is in the shards, in its split and class, or is named by what was printed or counted;
and a set in which nothing is wrong is packed.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from PIL import Image

from deeplense_batch.__main__ import main
from deeplense_batch.data.shards import open_split, read_splits

SIDE = 12
BANDS = ("g r", "g r i", "HSC-G HSC-R HSC-I", "F606W F814W", "u g r i z", "Band1 Band2 Band3",
         "R G B", "VIS Y J H")  # fmt: skip
CLASSES = (("no", "sphere", "vort"), ("lenses", "nonlenses"), ("g", "star"), ("axion", "cdm"),
           ("no sub", "sübstruktur"), ("1", "2"), ("type_I", "type_II"))  # fmt: skip
NAMES = ("{}", "im_{}", "sim 0{}", "J1234+{:04}", "x{}_r", "é{}", "1_{}", "a-{}.b", "'{}'", "{}_y")


@dataclass
class Case:
    """A set, and what is right of it."""

    files: dict[str, bytes] = field(default_factory=dict)  # in order; zips may repeat a name
    twice: list[tuple[str, bytes]] = field(default_factory=list)
    expected: dict[str, tuple[bytes, str, str]] = field(
        default_factory=dict
    )  # image, split, class
    lost: set[str] = field(default_factory=set)  # images that must be named or counted
    bad: bool = False  # there is a reason to refuse it
    channels: int = 1
    told: list[str] = field(default_factory=list)  # words that must be printed
    touched: set[str] = field(default_factory=set)  # images that have a fault


def encoded(array: np.ndarray, ending: str) -> bytes:
    """An image as a file."""
    buffer = io.BytesIO()
    if ending == ".npy":
        np.save(buffer, array)
    elif ending == ".npz":
        np.savez(buffer, array)
    elif ending == ".fits":
        fits.PrimaryHDU(array).writeto(buffer)
    else:
        Image.fromarray(array).save(buffer, {".png": "png", ".tif": "tiff"}[ending])
    return buffer.getvalue()


def image(rng: random.Random, ending: str) -> np.ndarray:
    numbers = np.random.default_rng(rng.getrandbits(60))
    if ending == ".png":
        return numbers.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    return numbers.normal(size=(SIDE, SIDE)).astype(np.float32)


def content(array: np.ndarray) -> bytes:
    """What is compared, whatever type it is packed as."""
    return np.ascontiguousarray(array, np.float64).tobytes()


def folders(rng: random.Random) -> list[tuple[str, str, str]]:
    """Folder, split and class of the images of one layout; "" where there is none."""
    classes = rng.choice(CLASSES)
    splits = rng.choice((("train", "val"), ("train", "test"), ("train", "valid", "test")))
    as_split = {"valid": "val"}
    pairs = [(s, as_split.get(s, s), c) for s in splits for c in classes]
    return rng.choice(
        (
            [("", "train", "")],
            [(c, "", c) for c in classes],
            [(f"{s}/{c}", split, c) for s, split, c in pairs],
            [(f"{split}_{c}", split, c) for _, split, c in pairs],
            [(f"{c}_{split}", split, c) for _, split, c in pairs],
            [(s, as_split.get(s, s), "") for s in splits],
        )
    )


def make(rng: random.Random) -> Case:
    """A random set."""
    case = Case()
    bands = rng.choice(BANDS).split() if rng.random() < 0.4 else [""]
    place = rng.choice(("end", "start", "folder", "below", "object"))
    ending, pattern = (
        rng.choice((".npy", ".npy", ".npz", ".png", ".tif", ".fits")),
        rng.choice(NAMES),
    )
    doubled, count = rng.random() < 0.15, rng.randint(1, 5)
    case.channels = len(bands)
    where = folders(rng)
    if bands != [""]:
        pattern = rng.choice(("{}", "obj{}", "cutout_{}"))
    for folder, split, class_ in where:
        path = f"{folder}/{folder.rpartition('/')[2]}" if doubled and folder else folder
        for i in range(count):
            for band in bands:
                name = banded(path, pattern.format(i), band, place).strip("/") + ending
                array = image(rng, ending)
                case.files[name] = encoded(array, ending)
                case.expected[name] = (content(array), split, class_)
    for fault in rng.sample(FAULTS, rng.choice((0, 0, 1, 1, 2))):
        fault(rng, case)
    if rng.random() < 0.3:
        prefix = rng.choice(("dataset/", "a/b/", "my data/"))
        case.files = {prefix + name: data for name, data in case.files.items()}
        case.twice = [(prefix + name, data) for name, data in case.twice]
        case.expected = {prefix + name: one for name, one in case.expected.items()}
        case.lost = {prefix + name for name in case.lost}
    return case


def make_sets(rng: random.Random) -> Case:
    """A random set of .npz files, one for each split, perhaps of several channels."""
    case = Case(channels=rng.choice((1, 1, 3)))
    classes = np.array(rng.choice(CLASSES))
    for split in rng.choice((("train",), ("train", "val"), ("train", "val", "test"))):
        count = rng.randint(2, 6)
        images = np.stack(
            [[image(rng, ".npy") for _ in range(case.channels)] for _ in range(count)]
        )
        labels = np.arange(count) % len(classes)
        buffer = io.BytesIO()
        np.savez(buffer, images=images, labels=labels, classes=classes)
        case.files[f"{split}.npz"] = buffer.getvalue()
        for i, label in enumerate(labels):
            one = (content(images[i, 0]), split, str(classes[label]))
            case.expected[f"{split}.npz[{i}]"] = one
    if rng.random() < 0.2:
        name = rng.choice(list(case.files))
        case.files[name] = case.files[name][: rng.randint(0, len(case.files[name]) - 1)]
        case.bad = True
    for fault in rng.sample([junk, hidden, unread, table], rng.choice((0, 1))):
        fault(rng, case)
    return case


def banded(folder: str, name: str, band: str, place: str) -> str:
    if not band:
        return f"{folder}/{name}"
    return {
        "end": f"{folder}/{name}_{band}",
        "start": f"{folder}/{band}-{name}",
        "folder": f"{folder}/{band}/{name}",
        "below": f"{folder}/{band}/{name}_{band}",
        "object": f"{folder}/{name}/{band}",
    }[place]


# Faults: each of another image


def pick(rng: random.Random, case: Case) -> str:
    name = rng.choice(sorted(set(case.expected) - case.touched) or sorted(case.expected))
    case.touched.add(name)
    return name


def damaged(rng: random.Random, case: Case) -> None:
    name = pick(rng, case)
    data = case.files[name]
    case.files[name] = rng.choice((data[: len(data) // 2], b"", b"no image", data[:60]))
    case.lost.add(name)
    case.bad = True


def constant(rng: random.Random, case: Case) -> None:
    name = pick(rng, case)
    if name.endswith(".npy") and case.channels == 1:
        case.files[name] = encoded(np.ones((SIDE, SIDE), np.float32), ".npy")
        case.lost.add(name)
        case.bad = True


def missing(rng: random.Random, case: Case) -> None:
    """A band, or an image, that is not there."""
    if len(set(case.expected) - case.touched) > 1:
        name = pick(rng, case)
        del case.files[name], case.expected[name]
        case.bad = True  # perhaps; an ordinary set only has an image less


def junk(rng: random.Random, case: Case) -> None:
    folder = rng.choice(list(case.expected)).rpartition("/")[0]
    name = rng.choice(("README.md", "Thumbs.db", "notes.txt", "x/readme.txt"))
    case.files[f"{folder}/{name}".strip("/")] = b"junk"


def hidden(rng: random.Random, case: Case) -> None:
    folder = rng.choice(list(case.expected)).rpartition("/")[0]
    name = rng.choice((".ipynb_checkpoints/1-checkpoint.npy", ".9.npy"))
    case.files[f"{folder}/{name}".strip("/")] = encoded(image(rng, ".npy"), ".npy")
    case.told.append("hidden")


def unread(rng: random.Random, case: Case) -> None:
    folder = rng.choice(list(case.expected)).rpartition("/")[0]
    name = rng.choice(("c.gif", "more.zip", "d.pkl", "e.h5", "f.webp"))
    case.files[f"{folder}/{name}".strip("/")] = b"x"
    case.told.append(name)


def table(rng: random.Random, case: Case) -> None:
    case.files["labels.csv"] = b"id,is_lens\n1,0\n"
    if all(not class_ for _, _, class_ in case.expected.values()):
        case.told.append("is_lens")


def marked(rng: random.Random, case: Case) -> None:
    """A value that no image has."""
    name = pick(rng, case)
    _, split, class_ = case.expected[name]
    if name.endswith((".npy", ".fits")):
        array = image(rng, ".npy")
        array[3:5, 4:7] = rng.choice((-99, 1e30, 65535, 1e5))
        case.files[name] = encoded(array, "." + name.rpartition(".")[2])
        case.expected[name] = (content(array), split, class_)
        case.told += ["far from all others"] if case.channels == 1 else []


def twice(rng: random.Random, case: Case) -> None:
    """A name that a zip holds again, as it is or written otherwise."""
    name = pick(rng, case)
    again = rng.choice((name, f"./{name}", name.replace("/", "//"), name.replace("/", "\\")))
    case.twice.append((again, encoded(image(rng, ".npy"), ".npy")))


def alike(rng: random.Random, case: Case) -> None:
    """A file whose name differs from another's by case alone."""
    name = pick(rng, case)
    folder, slash, file = name.rpartition("/")
    if file.upper() != file and case.channels == 1:
        array = image(rng, ".npy")
        other = f"{folder}{slash}{file.rpartition('.')[0].upper()}.npy"
        if other not in case.files and name.endswith(".npy"):
            case.files[other] = encoded(array, ".npy")
            case.expected[other] = (content(array), *case.expected[name][1:])


FAULTS: list[Callable[[random.Random, Case], None]] = [
    damaged, constant, missing, junk, hidden, unread, table, marked, twice, alike,
]  # fmt: skip


# One packing


def write(case: Case, root: Path, rng: random.Random) -> Path:
    """The set as a folder, or as a zip of some program."""
    if rng.random() < 0.5 and not case.twice:
        for name, data in case.files.items():
            path = root / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return root / "set"
    slash = rng.choice(("/", "/", "\\"))
    start = rng.choice(("", "", "./", "/"))
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(root / "set.zip", "w", method) as archive:
        for name, data in [*case.files.items(), *case.twice]:
            member = zipfile.ZipInfo()
            member.filename, member.compress_type = start + name.replace("/", slash), method
            with warnings.catch_warnings(action="ignore"):  # a name may be there already
                archive.writestr(member, data)
    return root / "set.zip"


def run(*words: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main(list(words))
        except SystemExit as end:
            return int(end.code or 0), printed.getvalue()
    return 0, printed.getvalue()


def packed(out: Path) -> dict[bytes, tuple[str, str]]:
    """Split and class of every channel in the shards."""
    found: dict[bytes, tuple[str, str]] = {}
    for split, info in read_splits(out).items():
        opened = open_split(out, split)
        for pixels, target in zip(opened.images(), opened.targets().tolist(), strict=True):
            class_ = info.classes[target] if target >= 0 else ""
            found |= {content(channel): (split, class_) for channel in pixels}
    return found


def faults(case: Case, code: int, text: str, out: Path, skip_bad: bool) -> list[str]:
    """What is wrong with a packing."""
    if code not in (0, 3) or "Traceback" in text:
        return [f"exit code {code}"]
    if code == 3:
        first, *more = text.strip().splitlines()
        wrong = [] if case.bad or case.twice else ["a good set is refused"]
        indented = all(line.startswith("  ") or "cannot be packed" in line for line in more)
        return wrong if indented and len(first) > 20 else [*wrong, "more than a sentence"]
    wrong = [f"'{word}' is not told" for word in case.told if word not in text]
    if case.twice:
        wrong.append("two files of one name are one")
    there = packed(out)
    one_class = len({class_ for _, _, class_ in case.expected.values()}) == 1  # is none
    manifest = (out / "manifest.json").read_text()
    for name, (pixels, split, class_) in case.expected.items():
        file = name.rpartition("/")[2]
        if name in case.lost or pixels not in there:
            if not skip_bad or f'"{file}' not in manifest.replace("/", '"'):
                joined = case.channels > 1 and skip_bad and '"reason"' in manifest
                wrong += [] if joined else [f"{name} is lost"]
        elif there[pixels][0] != (split or there[pixels][0]):
            wrong.append(f"{name} is in split {there[pixels][0]}, not {split}")
        elif there[pixels][1] != class_ and not one_class:
            wrong.append(f"{name} is of class {there[pixels][1]}, not {class_}")
    shapes = {info.shape[0] for info in read_splits(out).values()}
    if not case.bad and shapes != {case.channels}:
        wrong.append(f"{shapes} channels, not {case.channels}")
    return wrong


def fuzz(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Pack random sets: how many were packed and refused, and what was wrong with which."""
    ends: Counter[str] = Counter()
    found = []
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        case = make_sets(rng) if rng.random() < 0.1 else make(rng)
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            source, skip_bad = write(case, folder, rng), rng.random() < 0.5
            words = ["--skip_bad"] if skip_bad else []
            code, text = run("pack", str(source), str(folder / "out"), *words)
            ends["packed" if code == 0 else "refused" if code == 3 else "failed"] += 1
            for fault in faults(case, code, text, folder / "out", skip_bad):
                names = sorted(case.files)[:6]
                found.append(f"{seed}-{number}: {fault}\n  {names}\n  {text.strip()[-600:]}")
        finally:
            shutil.rmtree(folder)
    return ends, found


if __name__ == "__main__":
    ended, wrong = fuzz(int(sys.argv[1]), int(sys.argv[2]))
    print("\n".join(wrong))
    print(f"{dict(ended)}, {len(wrong)} faults")
    sys.exit(bool(wrong))
