"""The outputs of a network on labelled images, as scores, `outputs.npz` and figures of a run.

With them go notes on what a reader of scores should know.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from deeplense_batch.core.result import Tested
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.scoring import by_detectability
from deeplense_batch.core.scoring.figures import save as save_figure
from deeplense_batch.report.columns import score_name
from deeplense_batch.simulation.truth.beside import known_delta_chi2
from deeplense_batch.tasks.task import Arrays, Scores, Task

__all__ = ["data_notes", "score_outputs", "summary_of"]


def score_outputs(
    directory: RunDir,
    task: Task,
    outputs: Arrays,
    *,
    root: Path | str,
    digest: str,
    title: str,
    tta: bool,
) -> Tested:
    """Score outputs, keep them, and draw them.

    Arguments:
        directory: Of the run; gets ``outputs.npz`` and ``figures/``.
        task: What the network has learnt.
        outputs: Of `training.evaluation.evaluate`, (N, ...) by name.
        root: Folder of the images, where their truth may lie (`simulation.truth.beside`).
        digest: Of the set of images.
        title: Of the figures.
        tta: Whether they are means over the symmetries of the square.
    """
    scores, notes = task.score(outputs)
    temporary = directory.path / ".outputs.tmp.npz"
    arrays: dict[str, Any] = {"classes": np.asarray(task.classes), **outputs}
    np.savez_compressed(temporary, **arrays)
    temporary.replace(directory.path / "outputs.npz")
    by_delta_chi2, more_notes = _by_delta_chi2(task, outputs, root, digest)
    history = directory.read_lines("history.jsonl")
    figures = dict(task.draw(outputs, history))
    if by_delta_chi2 is not None:
        figures["auc_by_delta_chi2"] = by_detectability.draw(by_delta_chi2)
    for name, figure in figures.items():
        if name == "history" and not history:
            continue  # an evaluation trains nothing
        figure.suptitle(title, fontsize=7, color="0.4")
        save_figure(figure, directory.figures / f"{name}.png")
    labelled = outputs["targets"][outputs["targets"] >= 0]
    counts = np.bincount(labelled, minlength=len(task.classes)).tolist()
    tested: Tested = {
        "scores": scores,
        "notes": notes + more_notes,
        "tta": tta,
        "scored": task.num_scored(outputs),
        "class_counts": dict(zip(task.classes, counts, strict=True)),
    }
    if by_delta_chi2 is not None:
        tested["by_delta_chi2"] = by_delta_chi2
    return tested


def summary_of(monitor: str, scores: Scores, seconds: float, spent_on: str) -> str:
    """The result in a line: ``test AUC 0.9876, 1.2 min of training``."""
    score = scores.get(monitor)
    shown = [] if score is None else [f"test {score_name(monitor)} {score:.4f}"]
    return ", ".join([*shown, f"{seconds / 60:.1f} min of {spent_on}"])


def _by_delta_chi2(
    task: Task, outputs: Arrays, root: Path | str, digest: str
) -> tuple[dict[str, Any] | None, list[str]]:
    """Scores by how visible substructure is, where that is known, and notes."""
    if not task.spec.classifies:
        return None, []
    known, notes = known_delta_chi2(root, digest, outputs["ids"].tolist())
    if known is None:
        return None, notes
    return by_detectability.score(outputs["targets"], outputs["logits"], known), notes


def data_notes(root: Path | str) -> list[str]:
    """What packing found wrong with the data, which a reader of scores should know."""
    path = Path(root) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        warnings = [str(warning) for warning in manifest.get("warnings", [])]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError):
        warnings = [f"{path.name} cannot be read, so that what packing warned of is not known"]
    return [f"data: {warning}" for warning in warnings]
