"""What the columns of tables and the arrays of sets are usually called."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["USUAL", "usual_columns"]

# In lower case. The first of _WELL_KNOWN wins over all others; sets take the first id they have.
USUAL = {
    "path": ("file_loc", "path", "file", "filename", "file_name", "filepath", "file_path", "image",
             "image_path", "img_path", "cutout", "fits"),
    "id": ("id_str", "object_id", "objid", "obj_id", "objectid", "source_id", "id", "iauname",
           "name", "object"),
    "label": ("label", "class", "is_lens", "islens", "lens", "labels"),
    "split": ("split",),
}  # fmt: skip
_WELL_KNOWN = ("file_loc", "id_str")


def usual_columns(columns: Sequence[str], role: str) -> list[str]:
    """The columns that may be the path, id, label or split by their names; one where plain."""
    found = [name for name in columns if name.lower() in USUAL[role]]
    plain = [name for name in found if name.lower() in _WELL_KNOWN]
    return plain if len(plain) == 1 else found
