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
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from deeplense_batch.core.result import scored_recipes
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.report.columns import missing_runs, state_counts
from deeplense_batch.report.copies import one_of_each
from deeplense_batch.report.csv_text import safe_text
from deeplense_batch.report.run_table import COLUMNS, CollectError, Row, members_of, read_rows

if TYPE_CHECKING:  # they take a second to load
    import pandas as pd

    from deeplense_batch.report.compare import ModelRuns
    from deeplense_batch.report.plots.pictures import Picture
    from deeplense_batch.report.predictions import Predictions
    from deeplense_batch.report.studies.block import Block
    from deeplense_batch.report.studies.selection.study import Wanted

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


class _Asked(NamedTuple):
    """What holds for every comparison of a report."""

    notes: Sequence[str]  # more to say
    root: Path | None  # folder of the runs
    rgb: Sequence[str]  # bands that are red, green and blue
    wanted: Sequence[Wanted]  # quantities of the test images


def collect(
    root: Path | str | None,
    out: Path | str = "report",
    *,
    import_: Path | str | None = None,
    predictions: Mapping[str, Path] | None = None,
    classes: Sequence[str] = (),
    bench: Path | str | None = None,
    rgb: Sequence[str] = (),
    by: Sequence[str] = (),
) -> Report:
    """Compare the runs below a folder, and results of other programs.

    Writes `results.csv` (a row for each run), `models.csv` and `models.tex` (a row for each model,
    over its seeds), `transfer.csv` (a row for each training set on each test set, where networks
    were tested on other data than their own), `results.json` (all of it), `report.html` and
    `report.md`, and the figures with the numbers to draw them again, `figures.json`; each is
    replaced whole.

    Arguments:
        root: Folder of the runs, or None for the results of other programs alone.
        out: Folder of the report.
        import_: Folder of published results (`predictions.published_rows`).
        predictions: Folders of predictions, by the name of their model.
        classes: Class names of these (`predictions.prediction_rows`).
        bench: What ``bench --out`` wrote, for hours on one device.
        rgb: Bands that are red, green and blue where images are shown; by default those of the
            longest waves.
        by: Quantities of the test images, ``theta_e`` or ``theta_e=0.5:1:2``, to study the models
            by (`studies.selection`).

    Raises:
        CollectError: There is nothing to compare, or `out` is not a folder; or a quantity is not
            known of the test images of any comparison.
    """
    from deeplense_batch.report.compare import add_reference_hours
    from deeplense_batch.report.predictions import prediction_rows, published_rows
    from deeplense_batch.report.studies.selection.study import read_wanted

    wanted = read_wanted(by)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise CollectError(f"{out}: not a folder")
    rows, copies = ([], []) if root is None else one_of_each(read_rows(root))
    rows += published_rows(import_) if import_ else []
    rows += prediction_rows(predictions or {}, classes)
    notes = [add_reference_hours(rows, bench)] if bench else []
    asked = _Asked(notes, None if root is None else Path(root), rgb, wanted)
    content, pictures = _content(rows, copies, asked)
    folder.mkdir(parents=True, exist_ok=True)
    table, models = _tables(content)
    paths = _write(folder, content, pictures, table, models)
    lines = [content["missing"], content["counts"], *copies, *content["unpooled"]]
    lines += _best(content)
    lines.append(f"report: {paths[0]}")
    return Report(table, models, paths, content["complete"], "\n".join(filter(None, lines)))


def _write(
    folder: Path,
    content: Mapping[str, Any],
    pictures: Sequence[Picture],
    table: pd.DataFrame,
    models: pd.DataFrame,
) -> tuple[Path, ...]:
    """Write every file of a report: the page first, then the tables, then the figures."""
    from deeplense_batch.report.pages.html import web_page
    from deeplense_batch.report.pages.latex import latex_table
    from deeplense_batch.report.pages.markdown import page
    from deeplense_batch.report.plots.pictures import write

    files = RunDir(folder)  # for its way of replacing a file
    drawn = write(folder, pictures)  # the page holds them
    texts = {
        "report.html": web_page(content, folder, _details(content, folder)),
        "report.md": page(content),
        "results.csv": _csv(table),
        "models.csv": _csv(models),
        "models.tex": latex_table(content),
    }
    if content["transfer"]:
        texts["transfer.csv"] = _csv(_cells(content["transfer"]))
    else:
        (folder / "transfer.csv").unlink(missing_ok=True)  # of other runs
    for name, text in texts.items():
        files.write_text(name, text)
    files.write_json("results.json", content)
    return (*(folder / name for name in (*texts, "results.json")), *drawn)


def _content(
    rows: list[Row], copies: Sequence[str], asked: _Asked
) -> tuple[dict[str, Any], list[Picture]]:
    """What `results.json` holds, and the figures."""
    from deeplense_batch.report.compare import name_variants
    from deeplense_batch.report.studies import transfer, transfer_page
    from deeplense_batch.report.studies.block import Block
    from deeplense_batch.report.studies.folds import UNPOOLED, compared, lacking, name_folds, pool
    from deeplense_batch.report.studies.gains.adaptation import adaptations
    from deeplense_batch.report.studies.gains.adaptation_page import adaptation_blocks
    from deeplense_batch.report.studies.selection.study import check_found
    from deeplense_batch.report.studies.studied import studied_in_matrices

    matrices = transfer.matrices(rows)  # by their recipes, which `name_variants` takes away
    adapted = adaptations(rows)
    pooled = pool(rows)
    name_variants([*rows, *pooled])
    name_folds(pooled)
    ranking, beside = transfer.ranked(compared(rows, pooled), matrices)
    found = [_comparison(n, models, asked) for n, models in enumerate(ranking, start=1)]
    comparisons = [comparison for comparison, _ in found]
    studies, of_studies = studied_in_matrices(beside, len(ranking) + 1, asked.wanted)
    check_found(asked.wanted, [one["by"] for one in (*comparisons, *studies)])
    unpooled = lacking(pooled)
    # of the whole page
    blocks = adaptation_blocks(adapted) + transfer_page.blocks(matrices) + of_studies
    blocks += [Block(UNPOOLED, unpooled)] if unpooled else []
    missing = missing_runs(rows)
    content = {
        "schema": _SCHEMA,
        "made": max((row["updated"] or "" for row in rows), default=""),
        "complete": not missing,
        "missing": missing,
        "counts": state_counts(rows),
        "rows": rows,
        "comparisons": comparisons,
        "transfer": matrices,
        "adaptation": adapted,
        "studies": studies,
        "blocks": [block.content() for block in blocks],
        "copies": copies,
        "unpooled": unpooled,
    }
    pictures = [picture for _, own in found for picture in own]
    return content, pictures + _pictures(blocks)


def _comparison(
    number: int, compared: Sequence[ModelRuns], asked: _Asked
) -> tuple[Row, list[Picture]]:
    """One comparison of `results.json`, and its figures."""
    from deeplense_batch.report.pages.compose import compose, searches
    from deeplense_batch.report.significance import infer
    from deeplense_batch.report.statistics.resamples import Resamples
    from deeplense_batch.report.studies.studied import studied
    from deeplense_batch.report.text import sentences

    resamples = Resamples.of(compared)
    models, predictions, gaps = infer(compared, resamples)
    hardest, faults = _hardest(number, models[0].runs[0], [*predictions.values()], asked)
    scored = _scored(models, asked.root)
    comparison = _described(number, models)
    comparison["sentences"] = sentences(models, [*gaps, *faults, *asked.notes], scored)
    comparison["scored_recipes"] = scored
    comparison["models"] = _numbered(models)
    grouping = next((p.grouping for p in predictions.values() if p.grouping is not None), None)
    if grouping is not None:
        comparison["resampled"] = {"column": grouping.column, "groups": grouping.number}
    runs = [model.runs for model in models]
    pictures = [*compose(comparison, runs, searches(models, predictions)), *hardest]
    comparison["figures"] = [{"name": p.name, "caption": p.caption} for p in pictures]
    numbers, blocks = studied(number, models, resamples, asked.wanted)
    comparison |= numbers
    comparison["blocks"] = [block.content() for block in blocks]
    return comparison, pictures + _pictures(blocks)


def _described(number: int, models: Sequence[ModelRuns]) -> Row:
    """What a comparison is of."""
    from deeplense_batch.report.text import heading

    first = models[0].runs[0]
    return {
        "number": number,
        "heading": heading(models),
        "task": first["task"],
        "data": Path(first["data_root"] or first["job"]).name,
        "score": models[0].monitor,
        "classes": list(dict.fromkeys(c for model in models for c in model.classes)),
        "more": list(dict.fromkeys(n for model in models for n in model.more)),
        "test": first["test"],
        "test_samples": first["test_samples"],
    }


def _hardest(
    number: int, first: Row, predictions: Sequence[Predictions], asked: _Asked
) -> tuple[list[Picture], list[str]]:
    """The figure of the hardest images of a comparison whose first run this is, or why not."""
    from deeplense_batch.report.pages.compose import compose_hardest

    if not first["data_root"]:
        return [], []
    slice_ = first.get("split") or first["test"]
    runs = [Path(run["run"]) for run in members_of(first)]
    return compose_hardest(
        number, predictions, first["data_root"], first["data_digest"], slice_,
        runs=runs, rgb=asked.rgb,
    )  # fmt: skip


def _scored(models: Sequence[ModelRuns], root: Path | None) -> int:
    """How many recipes were ever scored on the test slice of a comparison, as far as is known."""
    first, counts = models[0].runs[0], [len(models)]
    if root is not None:
        tests = {run["test"] for run in members_of(first)}
        counts += [scored_recipes(root, first["data_digest"], test) for test in tests]
    return max(counts)


def _pictures(blocks: Sequence[Block]) -> list[Picture]:
    return [picture for block in blocks for picture in block.pictures]


def _details(content: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Recipe, figures and log of every model's picked run, where they exist, by its folder.

    The figures are brought into `models/` of the report's folder, where the page finds them.
    """
    from deeplense_batch.report.pages.html import OPENED

    for old in (folder / _MODELS).glob("[0-9]*-[0-9]*/*.png"):
        old.unlink()
    details: dict[str, dict[str, Any]] = {}
    models = [
        (comp["number"], model) for comp in content["comparisons"] for model in comp["models"]
    ]
    for number, model in models[:OPENED]:
        run, below = RunDir(model["run"]), f"{_MODELS}/{number}-{model['place']}"
        figures = _copy_figures(run.figures, folder, below)
        if "folds" in model:  # of the first
            figures = {f"{name}, fold 1": address for name, address in figures.items()}
        shown: dict[str, Any] = {"figures": figures}
        with contextlib.suppress(OSError, UnicodeDecodeError):
            shown["recipe"] = (run.path / "job.yaml").read_text(encoding="utf-8")
        if (run.path / "log.txt").exists():
            shown["log"] = str(run.path / "log.txt")
        details[str(run.path)] = shown
    return details


def _copy_figures(figures: Path, folder: Path, below: str) -> dict[str, str]:
    """Copy the figures of a run below a folder; their addresses there, by name."""
    addresses = {}
    for path in sorted(figures.glob("*.png")):
        (folder / below).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # the page says which is missing
            shutil.copyfile(path, folder / below / path.name)
        addresses[path.stem] = f"{below}/{quote(path.name)}"
    return addresses


def _numbered(models: Sequence[ModelRuns]) -> list[Row]:
    """A flat row for each model, with its place and whether it is on its device's Pareto front."""
    from deeplense_batch.report.compare import pareto

    rows: list[Row] = [{"place": rank, **m.row()} for rank, m in enumerate(models, start=1)]
    for device in {row["device"] for row in rows}:
        own = [row for row in rows if row["device"] == device]
        score = f"{models[0].monitor}_mean"
        front = pareto((row["train_seconds"] if device else None, row[score]) for row in own)
        for row, on_front in zip(own, front, strict=True):
            row["pareto"] = on_front
    return [row.pop("more") | row for row in rows]


def _best(content: Mapping[str, Any]) -> list[str]:
    """The best model of each comparison, with its data where there are several; worst losses."""
    from deeplense_batch.report.studies import transfer_page
    from deeplense_batch.report.studies.gains import adaptation_page

    several = len(content["comparisons"]) > 1
    return [
        comparison["sentences"][0].removesuffix(".")
        + (f" ({comparison['heading']}, folder {comparison['data']})" if several else "")
        for comparison in content["comparisons"]
    ] + [
        *adaptation_page.summaries(content["adaptation"]),
        *transfer_page.summaries(content["transfer"]),
    ]


def _tables(content: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and the models, a row each."""
    import pandas as pd

    rows = content["rows"]
    classes = dict.fromkeys(name for row in rows for name in row if name.startswith("auc_"))
    more = dict.fromkeys(name for row in rows for name in row.get("more") or ())
    after_auc, after_nll = COLUMNS.index("auc") + 1, COLUMNS.index("nll") + 1
    flat = [
        row | (row.get("more") or {}) | {"notes": "; ".join(row["notes"] or ()) or None}
        for row in rows
    ]
    names = [*COLUMNS[:after_auc], *classes, *COLUMNS[after_auc:after_nll], *more]
    models = [
        {"comparison": comparison["number"]} | _flat(model)
        for comparison in content["comparisons"]
        for model in comparison["models"]
    ]
    runs = pd.DataFrame(flat, columns=[*names, *COLUMNS[after_nll:]])
    return runs, pd.DataFrame(models)


def _cells(matrices: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The cells of all matrices, a row each."""
    import pandas as pd

    return pd.DataFrame(
        {"model": matrix["model"], "score": matrix["score"]}
        | {name: value for name, value in cell.items() if name != "evaluations"}
        | {"runs": len(cell["runs"])}
        for matrix in matrices
        for cell in matrix["cells"]
    )


def _csv(table: pd.DataFrame) -> str:
    """The table as .csv, in which no name is a formula."""

    def safe(value: Any) -> Any:
        return safe_text(value) if isinstance(value, str) else value

    return table.rename(columns=safe).map(safe).convert_dtypes().to_csv(index=False)


def _flat(model: Row) -> Row:
    """A model without lists in it: DeLong's test becomes columns of each class."""
    tests = model.get("delong") or {}
    named = {f"delong_{n}_{c}": v for c, test in tests.items() for n, v in test.items()}
    own = {name: value for name, value in model.items() if name not in ("delong", "folds")}
    return own | named
