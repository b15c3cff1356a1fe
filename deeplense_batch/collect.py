"""The comparison of runs: tables, figures and a report on disk.

Every run is a row; only runs tested on the same samples are compared (`compare`); seconds are
compared on one device only.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from deeplense_batch.cells import safe_text
from deeplense_batch.copies import one_of_each
from deeplense_batch.report.tables import missing_runs, state_counts
from deeplense_batch.rows import COLUMNS, CollectError, Row, read_rows
from deeplense_batch.rundir import RunDir

if TYPE_CHECKING:  # they take a second to load
    import pandas as pd

    from deeplense_batch.compare import Compared
    from deeplense_batch.report.pictures import Picture

__all__ = ["CollectError", "Report", "collect"]

_SCHEMA = 2
_MODELS = "models"  # folder of the models' own figures, in that of the report


@dataclass(frozen=True)
class Report:
    """What `collect` found and wrote."""

    table: pd.DataFrame  # a row for each run
    models: pd.DataFrame  # a row for each model, over its seeds
    paths: tuple[Path, ...]
    complete: bool  # every run is done
    summary: str


def collect(
    root: Path | str | None,
    out: Path | str = "report",
    *,
    import_: Path | str | None = None,
    predictions: Mapping[str, Path] | None = None,
    classes: Sequence[str] = (),
    bench: Path | str | None = None,
) -> Report:
    """Compare the runs below a folder, and results of other programs.

    Writes `results.csv` (a row for each run), `models.csv` and `models.tex` (a row for each model,
    over its seeds), `results.json` (all of it), `report.html` and `report.md`, and the figures
    with the numbers to draw them again, `figures.json`; each is replaced whole.

    Arguments:
        root: Folder of the runs, or None for the results of other programs alone.
        out: Folder of the report.
        import_: Folder of published results (`imported.published_rows`).
        predictions: Folders of predictions, by the name of their model.
        classes: Class names of these (`imported.prediction_rows`).
        bench: What ``bench --out`` wrote, for hours on one device.

    Raises:
        CollectError: There is nothing to compare, or `out` is not a folder.
    """
    from deeplense_batch.imported import prediction_rows, published_rows
    from deeplense_batch.reference import add_reference_hours
    from deeplense_batch.report.latex import latex_table
    from deeplense_batch.report.markdown import page
    from deeplense_batch.report.pictures import write
    from deeplense_batch.report.web import web_page

    folder = RunDir(out)  # for its way of replacing a file
    if folder.path.exists() and not folder.path.is_dir():
        raise CollectError(f"{out}: not a folder")
    rows, copies = ([], []) if root is None else one_of_each(read_rows(root))
    rows += published_rows(import_) if import_ else []
    rows += prediction_rows(predictions or {}, classes)
    notes = [add_reference_hours(rows, bench)] if bench else []
    content, pictures = _compared(rows, notes)
    content["copies"] = copies
    folder.path.mkdir(parents=True, exist_ok=True)
    drawn = write(folder.path, pictures)
    table, models = _tables(content)
    folder.write_text("results.csv", _csv(table))
    folder.write_text("models.csv", _csv(models))
    folder.write_json("results.json", content)
    folder.write_text("report.md", page(content))
    folder.write_text(
        "report.html", web_page(content, folder.path, _details(content, folder.path))
    )
    folder.write_text("models.tex", latex_table(content))
    names = ("report.html", "report.md", "results.csv", "models.csv", "models.tex", "results.json")
    paths = (*(folder.path / name for name in names), *drawn)
    said = [content["missing"], content["counts"], *copies, *_best(content)]
    said.append(f"report: {paths[0]}")
    return Report(table, models, paths, content["complete"], "\n".join(filter(None, said)))


def _compared(rows: list[Row], said: Sequence[str]) -> tuple[dict[str, Any], list[Picture]]:
    """Everything that is written, and the figures."""
    from deeplense_batch.compare import compare, name_variants
    from deeplense_batch.inference import infer
    from deeplense_batch.report.compose import compose, compose_hardest, searches
    from deeplense_batch.report.sentences import heading, sentences

    name_variants(rows)
    comparisons: list[Row] = []
    drawn: list[Picture] = []
    for number, plain in enumerate(compare(rows), start=1):
        models, answers, notes = infer(plain)
        first = models[0].runs[0]
        place = (first["data_root"], first["data_digest"], first["test"])
        hardest, faults = (
            compose_hardest(number, [*answers.values()], *place) if place[0] else ([], [])
        )
        comparison = {
            "number": number,
            "heading": heading(models),
            "task": first["task"],
            "data": Path(first["data_root"] or first["job"]).name,
            "score": models[0].monitor,
            "classes": list(dict.fromkeys(c for model in models for c in model.classes)),
            "more": list(dict.fromkeys(n for model in models for n in model.more)),
            "test": first["test"],
            "test_samples": first["test_samples"],
            "sentences": sentences(models, [*notes, *faults, *said]),
            "models": _numbered(models),
        }
        runs = [model.runs for model in models]
        pictures = [*compose(comparison, runs, searches(models, answers)), *hardest]
        drawn += pictures
        comparison["figures"] = [{"name": p.name, "caption": p.caption} for p in pictures]
        comparisons.append(comparison)
    missing = missing_runs(rows)
    content = {
        "schema": _SCHEMA,
        "made": max((row["updated"] or "" for row in rows), default=""),
        "complete": not missing,
        "missing": missing,
        "counts": state_counts(rows),
        "rows": rows,
        "comparisons": comparisons,
    }
    return content, drawn


def _details(content: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Recipe, figures and log of every model's picked run, where they are there, by its folder.

    The figures are brought into `models/` of the report's folder, where the page finds them.
    """
    from deeplense_batch.report.web import OPENED

    found: dict[str, dict[str, Any]] = {}
    for old in (folder / _MODELS).glob("[0-9]*-[0-9]*/*.png"):
        old.unlink()
    models = [(each["number"], m) for each in content["comparisons"] for m in each["models"]]
    for number, model in models[:OPENED]:
        run, place = RunDir(model["run"]), f"{_MODELS}/{number}-{model['place']}"
        details: dict[str, Any] = {"figures": _brought(run.figures, folder, place)}
        with contextlib.suppress(OSError, UnicodeDecodeError):
            details["recipe"] = (run.path / "job.yaml").read_text(encoding="utf-8")
        if (run.path / "log.txt").exists():
            details["log"] = str(run.path / "log.txt")
        found[str(run.path)] = details
    return found


def _brought(figures: Path, folder: Path, place: str) -> dict[str, str]:
    """Copy the figures of a run to a place in a folder; their addresses there, by name."""
    found = {}
    for path in sorted(figures.glob("*.png")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # the page says which is missing
            shutil.copyfile(path, folder / place / path.name)
        found[path.stem] = f"{place}/{quote(path.name)}"
    return found


def _numbered(models: Sequence[Compared]) -> list[Row]:
    """A flat row for each model, with its place and whether another is as good and cheaper."""
    from deeplense_batch.compare import pareto

    rows: list[Row] = [{"place": place, **m.row()} for place, m in enumerate(models, start=1)]
    for device in {row["device"] for row in rows}:
        own = [row for row in rows if row["device"] == device]
        score = f"{models[0].monitor}_mean"
        front = pareto((row["train_seconds"] if device else None, row[score]) for row in own)
        for row, on_it in zip(own, front, strict=True):
            row["pareto"] = on_it
    return [row.pop("more") | row for row in rows]


def _best(content: Mapping[str, Any]) -> list[str]:
    """The best model of each comparison, and the data where there are several."""
    several = len(content["comparisons"]) > 1
    return [
        each["sentences"][0].removesuffix(".")
        + (f" ({each['test']} of {each['data']})" if several else "")
        for each in content["comparisons"]
    ]


def _tables(content: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    rows = content["rows"]
    classes = dict.fromkeys(name for row in rows for name in row if name.startswith("auc_"))
    more = dict.fromkeys(name for row in rows for name in row.get("more") or ())
    place, end = COLUMNS.index("auc") + 1, COLUMNS.index("nll") + 1
    plain = [
        row | (row.get("more") or {}) | {"notes": "; ".join(row["notes"] or ()) or None}
        for row in rows
    ]
    names = [*COLUMNS[:place], *classes, *COLUMNS[place:end], *more, *COLUMNS[end:]]
    models = [
        {"comparison": each["number"]} | _flat(model)
        for each in content["comparisons"]
        for model in each["models"]
    ]
    return pd.DataFrame(plain, columns=names), pd.DataFrame(models)


def _csv(table: pd.DataFrame) -> str:
    """The table as .csv, in which no name is a formula."""

    def safe(value: Any) -> Any:
        return safe_text(value) if isinstance(value, str) else value

    return table.rename(columns=safe).map(safe).convert_dtypes().to_csv(index=False)


def _flat(model: Row) -> Row:
    """A model without what is nested in it: DeLong's test becomes columns of each class."""
    tests = model.get("delong") or {}
    named = {f"delong_{n}_{c}": v for c, test in tests.items() for n, v in test.items()}
    return {name: value for name, value in model.items() if name != "delong"} | named
