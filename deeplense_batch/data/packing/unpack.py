"""Write shards back to files that other programs read: a .npy for each image, by its id."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from deeplense_batch.data.formats.images import SUFFIXES
from deeplense_batch.data.shard_file import writing
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, read_splits

__all__ = ["unpack"]

_BLOCK = 256  # images in memory

Put = Callable[[str, bytes], None]


def unpack(root: Path | str, out: Path | str) -> int:
    """Write the images of a folder of shards as .npy files, with the values they were packed from.

    The files are ``<split>/<class>/<id>.npy``, the public layout of the substructure set, or
    ``<split>_<class>/<id>.npy``, that of the lens-finding set, or what the ids say where samples
    have no class. `pack` reads them back, unlabelled ones as a folder of its own. Of pairs there
    are ``<split>/HR/...`` and ``<split>/LR/...``; of images without noise ``<split>/clean/...``,
    which `pack` leaves out.

    Arguments:
        root: Folder of shards.
        out: Folder that is made, or a ``.zip``.

    Returns:
        How many files were written.

    Raises:
        ShardError: `out` exists already, or two samples would be one file.
    """
    out = Path(out)
    if out.exists() or out.is_symlink():  # even a broken link
        raise ShardError(f"{out}: is there already; name another folder or .zip")
    splits = read_splits(root)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.unlink(missing_ok=True)
    try:
        with writing(out), (_zip if out.suffix == ".zip" else _folder)(temporary) as put:
            count = _write_images(Path(root), splits.values(), put)
        temporary.replace(out)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
    return count


def _write_images(root: Path, splits: Iterable[SplitInfo], put: Put) -> int:
    names: set[str] = set()
    for info in splits:
        for first in range(0, len(info), _BLOCK):
            part = Split(info, first, min(first + _BLOCK, len(info)))
            for name, image in _named(part) if info.inputs is None else _pairs(part):
                if name in names:
                    raise ShardError(f"{root}: two samples would be the file {name}")
                names.add(name)
                put(name, _npy(image))
    return len(names)


def _named(images: Split) -> Iterator[tuple[str, np.ndarray]]:
    """The images of a slice with the names of their files."""
    classes = images.info.classes
    for id_, target, image in zip(images.ids(), images.targets(), images.images(), strict=True):
        ending = next((suffix for suffix in SUFFIXES if id_.lower().endswith(suffix)), "")
        path = PurePosixPath(id_[: len(id_) - len(ending)])
        parts = [piece for piece in path.parts if piece not in ("/", "..", ".")]
        split, name = images.info.name, classes[target] if target >= 0 else None
        if name is not None and parts[0] not in (split, f"{split}_{name}"):
            parts = [split, *([] if parts[0] == name else [name]), *parts]
        yield "/".join(parts) + ".npy", image


def _pairs(images: Split) -> Iterator[tuple[str, np.ndarray]]:
    """The images of a slice of pairs, their inputs, and those without noise, by file name."""
    info = images.info
    halves = {"HR": images, "LR": images.of("inputs")}
    halves |= {"clean": images.of("clean")} if info.has_clean else {}
    for folder, half in halves.items():
        for name, image in _named(half):
            path = name.removeprefix(f"{info.name}/")
            yield f"{info.name}/{folder}/{path}", image


def _npy(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


@contextmanager
def _folder(path: Path) -> Iterator[Put]:
    def put(name: str, content: bytes) -> None:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    path.mkdir()
    yield put


@contextmanager
def _zip(path: Path) -> Iterator[Put]:
    with zipfile.ZipFile(path, "w") as archive:  # float images hardly shrink
        yield archive.writestr
