"""Images restored by a run: as shards that every verb reads, or as a file for each.

A run that draws images of inputs gives two: the mean of several samples, and their sd.

The images are the inputs of pairs, or images alone, of the size that the network takes, in shards
or in any layout that `pack` reads. Memory does not grow with them.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.pieces import Progress
from deeplense_batch.data.batches.room import Room
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.images import SUFFIXES
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.shard_file import writing
from deeplense_batch.data.writer import ShardWriter, make_folder, own_folder
from deeplense_batch.inference.images.catalogue import NONE
from deeplense_batch.inference.images.inputs import open_inputs
from deeplense_batch.inference.images.piecewise import Inputs, Piece
from deeplense_batch.inference.images.suitable import check_bands
from deeplense_batch.inference.restoring.drawn import samples_of
from deeplense_batch.inference.trained import Trained, TrainedError, open_trained
from deeplense_batch.tasks.generation import Generation
from deeplense_batch.tasks.restoration import Restoration
from deeplense_batch.tasks.task import Batch
from deeplense_batch.training.precision import Precision, scored_in

__all__ = ["SAMPLES", "Format", "Restored", "restore"]

Format = Literal["shards", "npy", "fits"]

SAMPLES = 8  # of each input, by a run that draws

_SAMPLER, _STEPS, _SEED = "dpmpp", 25, 0
_SPLIT = "restored"  # of images whose files say none
_PIECE = 1024  # images
_NAMED = 3  # images without a result, in a sentence

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What `restore` did."""

    out: Path
    images: int
    seconds: float
    problems: tuple[str, ...]  # sentences on images that have no result

    def __str__(self) -> str:
        lines = [
            f"{self.out}: {counted(self.images, 'image')}, {self.images / self.seconds:.0f}/s"
        ]
        if count := len(self.problems):
            more = f"; and {count - _NAMED} more" if count > _NAMED else ""
            lines.append(
                f"{counted(count, 'image')} could not be restored: "
                f"{'; '.join(self.problems[:_NAMED])}{more}"
            )
        return "\n".join(lines)


def restore(
    run: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    slice_: str = "",
    form: Format = "shards",
    device: str | None = None,
    batch_size: int = 256,
    amp: str = "off",
    reading: Reading | None = None,
    samples: int = SAMPLES,
    on_batch: Callable[[], None] = lambda: None,
) -> Restored:
    """Restore images, float32 in the units of the set that the run has learnt from.

    Arguments:
        run: Directory of a finished run of task restoration, or of generation by inputs.
        data: Folder of shards, pairs or others, or images in any layout that `pack` reads.
        out: Folder that is made; of samples with the folders ``mean`` and ``sd``.
        slice_: Of the shards, such as ``val[:100]``; empty for everything.
        form: ``shards``, with splits, ids and labels as of the data; or ``npy`` or ``fits``, a
            file for each image named by its id: (C, H, W), or (H, W) of one channel.
        device: ``cpu`` or ``cuda``; by default a GPU where there is one.
        batch_size: Images at once; fewer where memory runs out.
        amp: As of `predict.predict`.
        reading: How files are read, of data that are no shards.
        samples: To draw of each input, by a run that draws, with dpmpp, 25 steps and seed 0: those
            that `evaluate` scores by default.
        on_batch: Called after each batch; what it raises ends the work, which begins anew.

    Raises:
        TrainedError: The run is not finished, or restores no images.
        ShardError: The data are none, or not what the network takes; or `out` holds something.
        DeviceError, PrecisionError: The machine lacks what is asked for.
    """
    trained, chosen, out = open_trained(run), device_of(device), Path(out)
    if samples < 2:
        raise TrainedError(f"--samples: expected 2 or more of each image, got {samples}")
    precision = Precision(amp, chosen, setting="--amp")
    work = _restorer_of(trained, chosen, batch_size, precision, samples)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainedError(f"{out}: is there already; name another folder")
    started = time.perf_counter()
    with ExitStack() as stack:
        inputs = stack.enter_context(work.open(Path(data), slice_, reading))
        check_bands(Path(data), trained.stand_for(data, inputs.bands), trained.bands, run)
        make_folder(out)
        progress = stack.enter_context(Progress("restored", len(inputs)))

        def advance(images: int) -> None:
            progress.advance(images)
            on_batch()

        write = _write_shards if form == "shards" else partial(_write_files, form=form)
        count = write(work, inputs, out, advance)
    return Restored(out, count, time.perf_counter() - started, tuple(work.problems))


class _Restorer:
    """A run at work on the pieces of images."""

    #: Folders of what is made of each image, below that of the result; empty is that itself.
    folders: ClassVar[tuple[str, ...]] = ("",)

    def __init__(
        self, trained: Trained, device: torch.device, batch_size: int, precision: Precision
    ) -> None:
        self.trained, self.problems = trained, list[str]()
        self._model = trained.model.to(device)
        self._device, self._batch_size, self._precision = device, batch_size, precision
        self._room = Room()

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of restored images."""
        return self.trained.input_shape

    def open(
        self, data: Path, slice_: str, reading: Reading | None
    ) -> AbstractContextManager[Inputs]:
        """The images that the network is given."""
        trained, ratio = self.trained, self.trained.ratio
        channels, height, width = trained.shape
        crop = trained.job.data.crop
        return open_inputs(
            data, slice_, (channels, height // ratio, width // ratio),
            crop=None if crop is None else crop // ratio, columns=NONE, reading=reading,
            choose=partial(trained.choose, data), of_pairs="inputs",
        )  # fmt: skip

    def images(
        self, inputs: Inputs, piece: Piece, on_batch: Callable[[int], None]
    ) -> Iterator[tuple[str, str | None, str | None, NDArray[np.float32]]]:
        """Id, split, label and values of each image that can be restored.

        The values are (K, C, H, W), of the K `folders`.
        """
        ratio, crop = self.trained.ratio, self.trained.transform.crop
        transform = replace(self.trained.transform, crop=crop // ratio if crop else None)
        names = inputs.names(piece)
        first = 0
        batches = inputs.batches(piece, transform, self._device, size=self._batch_size)
        for batch in batches:
            count = len(batch.images)
            values = self._restored(batch.images, names.ids[first : first + count])
            for i in range(count):
                id_ = names.ids[first + i]
                problem = batch.problems.get(i)
                if problem is None and not np.isfinite(values[i]).all():
                    problem = "the restored image is not finite"
                if problem is not None:
                    self.problems.append(f"{id_}: {problem}")
                    continue
                yield id_, names.splits[first + i], names.labels[first + i], values[i]
            first += count
            on_batch(count)

    @torch.inference_mode()
    def _restored(self, images: torch.Tensor, ids: Sequence[str]) -> NDArray[np.float32]:
        """What is made of inputs, (B, K, C, H, W)."""
        with scored_in(self._precision):
            parts = self._room.pieces(
                len(images), lambda some: self._made(images[some], ids[some])
            )
            return torch.cat([*parts]).float().cpu().numpy()

    def _made(self, images: torch.Tensor, ids: Sequence[str]) -> torch.Tensor:
        """What is made of a few inputs, (B, K, C, H, W)."""
        task = self.trained.task
        assert isinstance(task, Restoration)
        return task.restored(self._model, images)[:, None]


class _Drawer(_Restorer):
    """A run at work that draws samples of each image: their mean and sd."""

    folders: ClassVar[tuple[str, ...]] = ("mean", "sd")

    def __init__(
        self,
        trained: Trained,
        device: torch.device,
        batch_size: int,
        precision: Precision,
        samples: int,
    ) -> None:
        super().__init__(trained, device, batch_size, precision)
        self._samples = samples

    def _made(self, images: torch.Tensor, ids: Sequence[str]) -> torch.Tensor:
        trained, task = self.trained, self.trained.task
        assert isinstance(task, Generation)
        nothing = images.new_full((len(images),), torch.nan)
        unknown = torch.full_like(nothing, -1, dtype=torch.int64)  # class, and place in a slice
        batch = Batch(images, unknown, unknown, truth={"theta_e": nothing}, inputs=images)
        conditions = task.conditions_of(batch)
        total = images.new_zeros(len(images), *self.shape, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for number in range(self._samples):
            made = samples_of(
                trained, task, [(id_, number) for id_ in ids], conditions, sampler=_SAMPLER,
                steps=_STEPS, seed=_SEED,
            ).double()  # fmt: skip
            total += made
            squares += made.square()
        mean = total / self._samples
        spread = (squares / self._samples - mean.square()).clamp_min(0)
        sd = (spread * (self._samples / (self._samples - 1))).sqrt()
        return torch.stack([mean, sd], 1).float()


def _restorer_of(
    trained: Trained, device: torch.device, batch_size: int, precision: Precision, samples: int
) -> _Restorer:
    """What a run restores images by, at work on a device.

    Raises:
        TrainedError: It restores none.
    """
    task = trained.task
    if isinstance(task, Restoration):
        return _Restorer(trained, device, batch_size, precision)
    if isinstance(task, Generation) and task.restoration is not None:
        return _Drawer(trained, device, batch_size, precision, samples)
    raise TrainedError(
        f"{trained.run.path}: its task, {trained.job.task.name}, restores no images; expected "
        "restoration"
    )


def _write_shards(
    work: _Restorer, inputs: Inputs, out: Path, on_batch: Callable[[int], None]
) -> int:
    """Write restored images as shards; how many."""
    trained, pieces = work.trained, inputs.pieces(_PIECE)
    labels = {label for piece in pieces for label in inputs.names(piece).labels if label}
    classes = [name for name in trained.classes if name in labels]
    classes += sorted(labels - {*classes})
    places = [out / folder for folder in work.folders]
    writers: dict[tuple[Path, str], ShardWriter] = {}
    count = 0
    with writing(out), ExitStack() as stack:
        for place in places:
            make_folder(place)
            stack.enter_context(own_folder(place))
        for piece in pieces:
            by_split: dict[str, list[tuple[str, int, NDArray[np.float32]]]] = {}
            for id_, split, label, values in work.images(inputs, piece, on_batch):
                number = classes.index(label) if label else -1
                by_split.setdefault(split or _SPLIT, []).append((id_, number, values))
            for split, rows in by_split.items():
                ids, targets, images = zip(*rows, strict=True)
                for k, place in enumerate(places):
                    if (place, split) not in writers:
                        writer = _writer(work, place, split, classes)
                        writers[place, split] = stack.enter_context(writer)
                    of_kind = np.stack([values[k] for values in images])
                    writers[place, split].append(of_kind, targets=targets, ids=ids)
                count += len(rows)
        for writer in writers.values():
            writer.finish()
        for writer in writers.values():
            writer.publish()
    return count


def _writer(work: _Restorer, out: Path, split: str, classes: Sequence[str]) -> ShardWriter:
    trained, number = work.trained, np.dtype(np.float32)
    return ShardWriter(
        out, split=split, shape=work.shape, stored=number, dtype=number, classes=classes,
        source=f"restored by {trained.run.name}", seed=trained.job.seed,
        pixel_scale=trained.input_pixel_scale, bands=trained.bands,
    )  # fmt: skip


def _write_files(
    work: _Restorer, inputs: Inputs, out: Path, on_batch: Callable[[int], None], *, form: Format
) -> int:
    """Write each restored image into a file of its own; how many.

    They lie in a hidden folder until all are there, so that half of them are not taken for all.
    """
    written: set[str] = set()
    unfinished = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    with writing(out):
        unfinished.mkdir()
        for piece in inputs.pieces(_PIECE):
            for id_, _, _, values in work.images(inputs, piece, on_batch):
                name = f"{_file_name(id_)}.{form}"
                if name in written:
                    raise TrainedError(f"{out}: two images would be the file {Path(name).name}")
                written.add(name)
                for folder, of_kind in zip(work.folders, values, strict=True):
                    path = unfinished / folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    kept = of_kind[0] if len(of_kind) == 1 else of_kind
                    _write_file(path, kept, work.trained)
        unfinished.rename(out)
    return len(written)


def _file_name(id_: str) -> str:
    """A path below a folder that an id names, without its ending."""
    ending = next((suffix for suffix in SUFFIXES if id_.lower().endswith(suffix)), "")
    parts = PurePosixPath(id_[: len(id_) - len(ending)]).parts
    return "/".join(part for part in parts if part not in ("/", "..", "."))


def _write_file(path: Path, values: NDArray[np.float32], trained: Trained) -> None:
    if path.suffix == ".npy":
        np.save(path, values)
        return
    from astropy.io import fits  # slow to load

    image = fits.PrimaryHDU(values)
    image.header["RUN"] = (trained.run.path.name, "network that restored the image")
    if np.isfinite(trained.input_pixel_scale):
        image.header["PIXSCALE"] = (trained.input_pixel_scale, "arcsec")
    image.writeto(path)
