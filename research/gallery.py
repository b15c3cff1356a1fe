"""Draw the pictures of docs/simulation.md: what each preset of the simulator looks like.

python -m research.gallery [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from deeplense_batch.data.shards import open_split
from deeplense_batch.simulation.presets import PRESETS, SIZES
from deeplense_batch.simulation.simulate import generator_class, simulate
from deeplense_batch.simulation.substructure import Substructure

COLUMNS = 6
SURVEYS = ("hsc", "ps1", "kids", "lsst", "euclid_vis")


def stretched(image: np.ndarray, soft: float = 0.1, dark: float = 0.02) -> np.ndarray:
    """The image from 0 to 1, its faint parts lifted; the share ``dark`` of it is black."""
    low, high = np.quantile(image, (dark, 0.999))
    return np.arcsinh(np.clip((image - low) / (high - low), 0, 1) / soft) / np.arcsinh(1 / soft)


def sheet(rows: dict[str, list[np.ndarray]]) -> Figure:
    """Images in rows, the name of each row at its left."""
    figure = Figure(figsize=(COLUMNS * 1.1 + 0.5, len(rows) * 1.1), dpi=100, facecolor="white")
    axes = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, fontsize=9)
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, origin="lower", cmap="magma", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    figure.subplots_adjust(0.06, 0.01, 0.995, 0.99, 0.03, 0.03)
    return figure


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    for name in PRESETS:
        generator, rows = Substructure(name, size=SIZES.get(name, 150)), {}
        for target, class_ in enumerate(generator.classes):
            made = generator.make("val", [3 * j + target for j in range(COLUMNS)], seed=0)
            rows[class_] = [stretched(image[0].astype(float)) for image in made.images]
        sheet(rows).savefig(folder / f"{name}.jpg")
    for name in SURVEYS:
        sheet(objects(name)).savefig(folder / f"{name}.jpg")
    sheet(painted("des")).savefig(folder / "onto.jpg")


def objects(preset: str) -> dict[str, list[np.ndarray]]:
    """Images of each class in a survey: i, r and g as red, green and blue, or one band."""
    survey, rows = generator_class("lens_finding")(preset=preset), {}
    shown = [survey.bands.index(band) for band in ("i", "r", "g") if band in survey.bands] or [0]
    white = np.array([1.0, 1.5, 3.0][: len(shown)])[:, None, None]
    soft, dark = (0.05, 0.02) if preset == "hsc" else (0.03, 0.4)
    for target, class_ in enumerate(survey.classes):
        made = survey.make("train", [2 * j + target for j in range(COLUMNS)], seed=1)
        scale = made.truth["scale"]  # counts at 0 and at 1, by which colours are true again
        counts = made.images * (scale[..., 1] - scale[..., 0])[..., None, None]
        images = [stretched(image, soft, dark) for image in counts[:, shown] * white]
        rows[class_] = [np.clip(image.transpose(1, 2, 0), 0, 1) for image in images]
    return rows


def painted(preset: str) -> dict[str, list[np.ndarray]]:
    """Galaxies of a survey, the same with arcs, and the arcs; i, r, g as red, green and blue."""
    with tempfile.TemporaryDirectory() as folder:
        simulate("lens_finding", folder, preset=preset, images=100)
        maker = generator_class("lens_finding")(preset=preset, onto=folder)
        made = maker.make("train", [2 * j + 1 for j in range(COLUMNS)], seed=3)
        before = open_split(folder, "train").images()[made.truth["onto"].astype(int)]
    rows = {"galaxies": before, "painted": made.images, "arcs": made.images - before}
    white = np.array([1.0, 1.5, 3.0])[:, None, None]
    return {
        name: [
            np.clip(stretched(image[::-1] * white, 0.03, 0.4).transpose(1, 2, 0), 0, 1)
            for image in images
        ]
        for name, images in rows.items()
    }


if __name__ == "__main__":
    main()
