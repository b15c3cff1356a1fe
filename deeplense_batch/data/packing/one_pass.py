"""One pass over a source: every image is read, encoded in one storage, and written to shards.

Reading and encoding use all cores; results are taken in order, so that two passes over one source
write the same shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from math import inf
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.machine import cores
from deeplense_batch.core.pieces import Progress
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.listing.listing import Sample
from deeplense_batch.data.packing.doubts import Doubt
from deeplense_batch.data.packing.pair_report import about_scales
from deeplense_batch.data.packing.parallel import map_in_order
from deeplense_batch.data.packing.sky import SkyChecks, columns_of
from deeplense_batch.data.packing.storage import (
    BadImage,
    Form,
    ImageRecord,
    Storage,
    convert,
    first_storage,
)
from deeplense_batch.data.pairs.pair_arrays import PairArrays
from deeplense_batch.data.sources.sources import Source
from deeplense_batch.data.writer import ShardWriter, stratified_order

__all__ = ["OnePass"]

_CHUNK = 32  # images of one task: enough to make its own cost small
_MOST_PROCESSES = 8  # more would wait for the one that writes


@dataclass
class _Chunk:
    """The outcome of the images of one task; the pixels of those packed are in its block."""

    packed: list[tuple[int, ImageRecord]] = field(default_factory=list)  # index in the split
    bad: list[BadImage] = field(default_factory=list)
    wider: Storage | None = None  # what an image needs: begin again with it


@dataclass
class OnePass:
    """Pack a source in one storage, until an image needs another.

    Used as a context manager: leaving it without `publish` removes what was written.
    """

    source: Source
    storage: Storage
    new_writer: Callable[[str, Storage], ShardWriter]  # of a split
    seed: int
    skip_bad: bool
    pixel_scale: float | None = None  # as the user gives it; headers may contradict it then

    bad: list[BadImage] = field(default_factory=list)
    same_images: dict[bytes, list[Sample]] = field(default_factory=dict)  # by their content
    ranges: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    doubts: list[tuple[Sample, Doubt]] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)  # images, by the kind of change
    changed_pixels: Counter[str] = field(default_factory=Counter)
    forms: Counter[Form] = field(default_factory=Counter)  # of all images that could be read
    sky: SkyChecks = field(init=False)
    _writers: dict[str, ShardWriter] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.sky = SkyChecks(self.source.columns, self.pixel_scale)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self) -> Storage | None:
        """Read all images, and write them under temporary names while none is bad.

        Afterwards `bad` lists the bad ones, `same_images` groups the samples by image, `ranges`
        has the least and the greatest value and the largest error of each split with a good
        image, and `doubts` lists values that are probably no light.

        Returns:
            None, or the storage to begin again with.
        """
        total = sum(map(len, self.source.splits.values()))
        with Progress("packed", total, log_end=False) as progress:
            for split in self.source.splits:
                with closing(self._convert(split)) as chunks:
                    for chunk, block in chunks:
                        if chunk.wider is not None:
                            return chunk.wider
                        self.bad += chunk.bad
                        self.forms.update(bad.form for bad in chunk.bad if bad.form)
                        if chunk.packed:
                            self._take(split, chunk.packed, block)
                        progress.advance(len(chunk.packed) + len(chunk.bad))
        return self._of_usual_form()

    def sorted_bad(self) -> list[BadImage]:
        """The bad images, by their ids."""
        return sorted(self.bad, key=lambda bad: bad.sample.id)

    def warnings(self) -> list[str]:
        """What headers and tables say that cannot be so."""
        return [*self.sky.warnings(), *about_scales(self.storage)]

    def finish(self) -> list[str]:
        """Finish the shards of all splits; gives the names that they will have."""
        for writer in self._writers.values():
            writer.finish()
        return [name for writer in self._writers.values() for name in writer.names()]

    def publish(self) -> None:
        """Give the shards of all splits their final names."""
        for writer in self._writers.values():
            writer.publish()

    def _convert(self, split: str) -> Generator[tuple[_Chunk, Array], None, None]:
        """Images of a split in packed order, (n, C, H, W) as stored, a chunk at a time."""
        samples = self.source.splits[split]
        targets = [sample.target for sample in samples]
        order = stratified_order(targets, self.seed, self.source.groups(samples))
        one_scale = self._one_scale

        def work(task: int, block: Array) -> _Chunk:
            chunk = _Chunk()
            for i in order[task * _CHUNK : (task + 1) * _CHUNK].tolist():
                outcome = convert(self.source, samples[i], self.storage, one_scale=one_scale)
                if isinstance(outcome, Storage):
                    chunk.wider = outcome
                    break
                if isinstance(outcome, BadImage):
                    chunk.bad.append(outcome)
                else:
                    place = block[len(chunk.packed)]
                    if outcome.inputs is None:
                        place[...] = outcome.stored
                    else:
                        place["images"], place["inputs"] = outcome.stored, outcome.inputs
                    chunk.packed.append((i, outcome.record))
            return chunk

        shape, dtype = self._form(split)
        return map_in_order(
            work,
            -(-len(order) // _CHUNK),
            processes=min(cores(), _MOST_PROCESSES),
            shape=(_CHUNK, *shape),
            dtype=dtype,
        )

    def _form(self, split: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of what is stored of a sample; of pairs it has two fields."""
        storage, inputs = self.storage, self.storage.inputs
        if inputs is None:
            return storage.shape, storage.stored[split]
        images = ("images", storage.stored[split], storage.shape)
        return (), np.dtype([images, ("inputs", inputs.stored[split], inputs.shape)])

    def _take(self, split: str, packed: list[tuple[int, ImageRecord]], block: Array) -> None:
        """Note what is known about some images, and write them unless the packing will fail."""
        samples = [self.source.splits[split][i] for i, _ in packed]
        records = [record for _, record in packed]
        self.sky.add(
            [sample.id for sample in samples],
            [sample.row for sample in samples],
            [record.header for record in records],
            min(self.storage.shape[-2:]),
        )
        for sample, record in zip(samples, records, strict=True):
            self.same_images.setdefault(record.content, []).append(sample)
            self.doubts += [(sample, doubt) for doubt in record.doubts]
            self.forms[record.form] += 1
            self.changes.update({change.kind for change in record.changes})
            for change in record.changes:
                self.changed_pixels[change.kind] += change.pixels
        least, most, error = self.ranges.get(split, (inf, -inf, 0.0))
        self.ranges[split] = (
            min(least, *(record.least for record in records)),
            max(most, *(record.most for record in records)),
            max(error, *(record.error for record in records)),
        )
        if self.skip_bad or not self.bad:
            block = block[: len(samples)]
            paired = self.storage.inputs is not None
            images, inputs = (block["images"], block["inputs"]) if paired else (block, None)
            self._write(split, samples, records, images, inputs)

    def _write(
        self,
        split: str,
        samples: list[Sample],
        records: list[ImageRecord],
        images: Array,
        inputs: Array | None,
    ) -> None:
        if split not in self._writers:
            writer = self.new_writer(split, self.storage)
            self._writers[split] = self._stack.enter_context(writer)
        scales = [record.scale for record in records if record.scale is not None]
        rows = np.array([sample.row for sample in samples], np.int64)
        truth = {name: values[rows] for name, values in self.source.truth.items()}
        if self.storage.has_masses:
            truth["axion_mass_ev"] = np.array([record.axion_mass_ev for record in records])
        catalogue = {name: values[rows] for name, values in self.source.columns.items()}
        catalogue |= columns_of(self.storage.columns, [record.header for record in records])
        self._writers[split].append(
            images,
            targets=[sample.target for sample in samples],
            ids=[sample.id for sample in samples],
            scale=np.array(scales) if scales else None,
            truth=truth,
            catalogue=catalogue,
            digests=[record.digest for record in records],
            pairs=None if inputs is None else PairArrays(inputs, _scales_of(records)),
        )

    @property
    def _one_scale(self) -> bool:
        """Whether an image of another pixel scale is bad."""
        return self.pixel_scale is None

    def _of_usual_form(self) -> Storage | None:
        """The storage of the form that most images have, where that is another.

        Images of an unknown pixel scale go with any. More images have the new form than had the
        one before, so that passes come to an end.
        """
        own = self.storage.form(one_scale=self._one_scale)
        counts = {
            form: sum(self.forms[one] for one in {form, form._replace(pixel_scale=None)})
            for form in (own, *self.forms)
        }
        usual = max(counts, key=counts.__getitem__)  # its own, where several are as frequent
        if usual == own:
            return None
        if usual.pixel_scale and usual._replace(pixel_scale=own.pixel_scale) == own:
            return replace(self.storage, pixel_scale=usual.pixel_scale)
        return first_storage(self.source, self.storage.asked, form=usual)


def _scales_of(records: list[ImageRecord]) -> NDArray[np.float64] | None:
    """Counts of value 1 of the inputs of some pairs, (n, C); None where they are no counts."""
    scales = [one.inputs.scale for one in records if one.inputs and one.inputs.scale is not None]
    return np.array(scales) if scales else None
