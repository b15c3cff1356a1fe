"""Sources that are damaged, odd, or meant to do harm."""

import io
import os
import socket
import struct
import zipfile
import zlib

import numpy as np


def image(seed=0, dtype="f4"):
    return np.random.default_rng(seed).random((12, 12)).astype(dtype)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def make_source(root, files=None):
    """Four good images of two classes, and files by name."""
    good = {f"train/{c}/{i}.npy": npy(image(i + 2 * (c == "b"))) for c in "ab" for i in range(2)}
    for name, content in (good | (files or {})).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(root, out):
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.*")):
            archive.write(path, path.relative_to(root).as_posix())
    return out


def claimed(shape, dtype="<f8"):
    """An .npy file whose header promises more than there is."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


def png(width, height):
    """A black picture, of which zlib leaves a thousandth."""

    def chunk(kind, data):
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height), 9)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def fits(size):
    """A header of an image of `size` x `size`, and zeros."""
    cards = ["SIMPLE  = T", "BITPIX  = -64", "NAXIS   = 2", f"NAXIS1  = {size}"]
    cards += [f"NAXIS2  = {size}", "END"]
    lines = (f"{c[:10]}{c[10:]:>20}" if "=" in c else c for c in cards)
    head = "".join(line.ljust(80) for line in lines)
    return head.ljust(2880).encode() + bytes(-(-size * size * 8 // 2880) * 2880)


def savez(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def a_socket(path):
    before = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # an address has a hundred letters at most
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.fchdir(before)
    os.close(before)


ODD = {
    "a pipe": os.mkfifo,
    "a socket": a_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: (path.with_name("d").mkdir(), path.symlink_to("d")),
    "No such file": lambda path: path.symlink_to("nowhere"),
    "Too many levels": lambda path: path.symlink_to(path),
}
