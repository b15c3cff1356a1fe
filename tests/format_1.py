"""Shards as they were written before they had heads: sets of users still lie in that form."""

from __future__ import annotations

from pathlib import Path

import h5py

from deeplense_batch.data.digest import ContentHash, Form, read_again
from deeplense_batch.data.shards import data_digest, read_splits


def to_format_1(root: Path) -> str:
    """Rewrite a folder of shards in format 1; gives its data digest."""
    for info in read_splits(root).values():
        scale = None  # format 1 leaves it out of the digest
        form = Form(info.dtype.name, info.classes, scale, format=1)
        whole, digests, arrays = (
            ContentHash(form),
            [],
            [list(read_again(path)) for path in info.files],
        )
        for parts in arrays:
            own = ContentHash(form)
            for part, images in parts:
                own.add(part, images)
                whole.add(part, images)
            digests.append(own.hexdigest())
        for path, digest in zip(info.files, digests, strict=True):
            rewritten = path.with_suffix(".tmp")
            with h5py.File(path, "r") as old, h5py.File(rewritten, "w") as new:
                for name in old:
                    old.copy(name, new)
                new.attrs.update(dict(old.attrs), format=1, digest=digest, digests=digests)
                new.attrs["content"] = whole.hexdigest()
            rewritten.replace(path)
    return data_digest(root)
