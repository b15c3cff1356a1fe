"""The verbs that make data: what each takes and what it calls.

A verb reads its words and gives a `Plan`; nothing happens before Fire has consumed every word, so
a misspelt flag costs nothing. Heavy imports happen inside a plan, so that ``--help`` answers at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deeplense_batch.cli import words

__all__ = ["DataCommands", "Plan"]


class Plan:
    """A command that was understood. Empty to Fire, so that a word left over matches nothing.

    Arguments:
        act: Carries it out, and gives the exit code.
        writes: What it writes, named where the disk is full.
    """

    __slots__ = ("act", "writes")

    def __init__(self, act: Callable[[], int], writes: object = None) -> None:
        self.act = act
        self.writes = writes

    def __dir__(self) -> list[str]:
        return []


class DataCommands:
    """From images, or from nothing, to shards and back."""

    def simulate(
        self,
        kind: str,
        out: str,
        *,
        preset: str = "",
        images: int | str = 600,
        seed: int | str = 0,
        size: str = "",
        shard_size: int | str = 2048,
        part: int | str = 0,
        parts: int | str = 1,
        set: str = "",
        device: str = "",
    ) -> Plan:
        """Make lens images by ray tracing, as shards; go on with them if it was cut off.

        Args:
            kind: What to make: substructure (classes no, sphere, vort), lens_finding (lenses
                among galaxies, three bands), diffusion (unlabelled lenses) or super_resolution
                (pairs of 150 and 75 pixels).
            out: Folder of the shards, made here.
            preset: common_test_1, like the real set and the default of substructure; benchmark,
                parity, varied (the default of the last two), physical or null.
            images: Images in the whole set; of substructure, the classes in equal parts.
            seed: The same seed gives the same images.
            size: Pixels along a side, by default 150; a lens_finding set has 64.
            shard_size: Images in a file.
            part: Which part of the files to make, from 0; the last to end completes the set.
            parts: Into how many parts they are divided.
            set: A field of the preset, FIELD=VALUE; may be given again. VALUE is a number, [low,
                high], or {law: Normal, mean: 0, sd: 0.5}.
            device: cpu, the default, or cuda; a lens_finding set is made on the CPU alone.
        """
        counts: dict[str, Any] = {
            name: words.integer(name, text)
            for name, text in (
                ("images", images),
                ("seed", seed),
                ("shard_size", shard_size),
                ("part", part),
                ("parts", parts),
            )
        }
        options: dict[str, Any] = {"overrides": words.settings("set", set)} if set else {}
        options |= {"preset": preset} if preset else {}
        options |= {"size": words.integer("size", size)} if size else {}
        options |= {"device": words.choice("device", device, ("cpu", "cuda"))} if device else {}
        where = words.folder("OUT", out)

        def act() -> int:
            import torch

            from deeplense_batch.core.processes import signals
            from deeplense_batch.simulation.simulate import simulate

            torch.set_num_threads(1)  # batches fit a core's cache; two threads are slower
            with signals() as interrupt:
                print(simulate(kind, where, **counts, **options, each=interrupt.check))
            return 0

        return Plan(act, where)

    def pack(
        self,
        source: str,
        out: str,
        *,
        shard_size: int | str = 2048,
        seed: int | str = 0,
        compression: str = "none",
        dtype: str = "exact",
        pixel_scale: str = "none",
        max_expansion: str = "100",
        allow_pickle: bool | str = False,
        skip_bad: bool | str = False,
        mask_value: str = "none",
    ) -> Plan:
        """Pack images, in any of the usual layouts, into shards; a zip is read in place.

        Args:
            source: Folder, zip or npz.
            out: Folder of the shards, made here.
            shard_size: Images in a file.
            seed: Seed of the order, and of the split where the source has none.
            compression: none; gzip or lzf for an archive, slower to read.
            dtype: exact keeps every bit; float32 or float16 may round.
            pixel_scale: Arcsec per pixel, where known.
            max_expansion: How many times its size a compressed file may unpack to, beyond 64 MB.
            allow_pickle: Load object arrays, which can run code: only for files you trust.
            skip_bad: Leave bad files out and list them, instead of stopping.
            mask_value: Value of pixels without light, such as 100, -99 or nan: they are filled
                with the median of the rest of their channel, and counted.
        """
        options: dict[str, Any] = {
            "shard_size": words.integer("shard_size", shard_size),
            "seed": words.integer("seed", seed),
            "compression": words.choice("compression", compression, ("none", "gzip", "lzf")),
            "dtype": words.choice("dtype", dtype, ("exact", "float16", "float32", "float64")),
            "pixel_scale": None
            if pixel_scale == "none"
            else words.number("pixel_scale", pixel_scale),
            "max_expansion": words.number("max_expansion", max_expansion),
            "allow_pickle": words.flag("allow_pickle", allow_pickle),
            "skip_bad": words.flag("skip_bad", skip_bad),
            "mask_value": None if mask_value == "none" else words.number("mask_value", mask_value),
        }
        read, write = words.folder("SOURCE", source), words.folder("OUT", out)
        if options["compression"] == "none":
            options["compression"] = None

        def act() -> int:
            from deeplense_batch.data.packing.pack import pack

            print(pack(read, write, **options))
            return 0

        return Plan(act, write)

    def unpack(self, data: str, out: str) -> Plan:
        """Write shards as .npy files again, in the public layout, for other programs.

        Args:
            data: Folder of shards.
            out: Folder that is made, or a .zip.
        """
        read, write = words.folder("DATA", data), words.folder("OUT", out)

        def act() -> int:
            from deeplense_batch.data.packing.unpack import unpack

            print(f"{write}: {unpack(read, write)} images")
            return 0

        return Plan(act, write)

    def truth(self, data: str, out: str, *, slice: str = "") -> Plan:
        """Write the truth behind simulated images: deflection, potential, source, detectability.

        Args:
            data: Folder of simulated shards.
            out: HDF5 file that is made, a group for each image.
            slice: Of which images, by default the first 100 of the first split.
        """
        read, write = words.folder("DATA", data), words.folder("OUT", out)

        def act() -> int:
            from deeplense_batch.simulation.truth import write_truth

            print(f"{write}: {write_truth(read, slice, write)} images")
            return 0

        return Plan(act, write)
