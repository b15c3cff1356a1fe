"""Shards back to the files that other people's programs read: a .npy for each image, by its id."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from deeplense_batch.data.shard_file import writing
from deeplense_batch.data.shards import ShardError, Split, read_splits
from deeplense_batch.data.sources.images import SUFFIXES

__all__ = ["unpack"]

_BLOCK = 256  # images in memory

Put = Callable[[str, bytes], None]


def unpack(root: Path | str, out: Path | str) -> int:
    """Write the images of a folder of shards as .npy files, with the values they were packed from.

    The files are ``<split>/<class>/<id>.npy``, the public layout of the substructure set, or
    ``<split>_<class>/<id>.npy``, that of the lens-finding set, or what the ids say where samples
    have no class. `pack` reads them back, unlabelled ones as a folder of its own.

    Arguments:
        root: Folder of shards.
        out: Folder that is made, or a ``.zip``.

    Returns:
        How many files were written.

    Raises:
        ShardError: `out` is there already, or two samples would be one file.
    """
    out = Path(out)
    if out.exists() or out.is_symlink():  # be it a link to nothing
        raise ShardError(f"{out}: is there already; name another place")
    splits = read_splits(root)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.unlink(missing_ok=True)
    names: set[str] = set()
    try:
        with writing(out), (_zip if out.suffix == ".zip" else _folder)(temporary) as put:
            for info in splits.values():
                for first in range(0, len(info), _BLOCK):
                    part = Split(info, first, min(first + _BLOCK, len(info)))
                    for name, image in _named(part):
                        if name in names:
                            raise ShardError(f"{root}: two samples would be the file {name}")
                        names.add(name)
                        put(name, _npy(image))
        temporary.replace(out)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
    return len(names)


def _named(part: Split) -> Iterator[tuple[str, np.ndarray]]:
    """The images of a slice with the names of their files."""
    classes = part.info.classes
    for id_, target, image in zip(part.ids(), part.targets(), part.images(), strict=True):
        ending = next((one for one in SUFFIXES if id_.lower().endswith(one)), "")
        path = PurePosixPath(id_[: len(id_) - len(ending)])
        parts = [piece for piece in path.parts if piece not in ("/", "..", ".")]
        split, name = part.info.name, classes[target] if target >= 0 else None
        if name is not None and parts[0] not in (split, f"{split}_{name}"):
            parts = [split, *([] if parts[0] == name else [name]), *parts]
        yield "/".join(parts) + ".npy", image


def _npy(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


@contextmanager
def _folder(path: Path) -> Iterator[Put]:
    def put(name: str, content: bytes) -> None:
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    path.mkdir()
    yield put


@contextmanager
def _zip(path: Path) -> Iterator[Put]:
    with zipfile.ZipFile(path, "w") as archive:  # float images hardly shrink
        yield archive.writestr
