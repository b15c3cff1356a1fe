"""The comparison as one page for a browser: tables to sort and filter, and its figures.

Style, script and the figures of the comparison are inside the page. The figures of single models
lie beside it, in `models/`, and are loaded when a model is opened, from a disk as from a server;
one that is not there is said to be missing. The page's policy forbids the browser to load anything
but pictures, and every text in it is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from deeplense_batch.report.columns import (
    Cell,
    Column,
    model_columns,
    number,
    score_name,
    table_cells,
    verdict,
    with_interval,
)
from deeplense_batch.report.compare import equally_valid
from deeplense_batch.report.run_table import Row

__all__ = ["OPENED", "web_page"]

_HERE = Path(__file__).parent
OPENED = 400  # models that open in the page: some 4 kB each, and figures beside it
_LARGEST_SVG = 400_000  # bytes; a figure of more marks than that is smaller as PNG
_BROKEN = ("failed", "lost", "unreadable", "stopped")  # what a person has to look at
_BROKEN_COLUMNS = ("job", "run", "state", "reason", "log")
_RUN_COLUMNS = (
    *("job", "model", "variant", "seed", "state", "epoch", "valid_auc", "auc", "accuracy"),
    *("train_seconds", "device", "run"),
)

Model = Mapping[str, Any]


def web_page(
    content: Mapping[str, Any], folder: Path, details: Mapping[str, Mapping[str, Any]]
) -> str:
    """Write the page: HTML.

    Arguments:
        content: What `results.json` holds.
        folder: Where the figures of the comparisons are, each as PNG and SVG.
        details: By run folder of a model (its ``run``): ``recipe``, YAML; ``figures``, addresses
            of PNG files by name, as seen from the page; ``log``, a path. Whatever is unknown is
            left out.

    Raises:
        OSError: A figure of a comparison is not there.
    """
    style, script = ((_HERE / f"template.{kind}").read_text() for kind in ("css", "js"))
    rows = content["rows"]
    broken = [row for row in rows if row["state"] in _BROKEN]
    left = OPENED
    sections = []
    for comparison in content["comparisons"]:
        sections.append(_section(comparison, folder, details, left))
        left -= len(comparison["models"])
    page = _template().render(
        content=content,
        sections=sections,
        blocks=_blocks(folder, content),
        broken=[[*cells] for cells in table_cells(broken, _BROKEN_COLUMNS)],
        runs=_run_columns(rows),
        states=[row["state"] for row in rows],
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    return page.encode("utf-8", "backslashreplace").decode()  # a path may hold what is no text


def _template() -> Template:
    """The page without its content; every text put into it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html")


def _section(
    comparison: Mapping[str, Any],
    folder: Path,
    details: Mapping[str, Mapping[str, Any]],
    opened: int,
) -> dict[str, Any]:
    """What the template shows of a comparison; the first `opened` models with their details."""
    models = comparison["models"]
    best = models[0]
    return {
        "comparison": comparison,
        "id": f"comparison-{comparison['number']}",
        "picked": equally_valid([model["valid_score"] for model in models]) == 1,
        "ordered": best["valid_score"] is not None,  # published results may know no validation
        "best": best["label"],
        "score": _headline(best, comparison["score"]),
        "verdicts": _verdicts(models),
        "pareto": any(model["pareto"] for model in models),
        "devices": len({model["device"] for model in models if model["device"]}),
        "figures": _figures(folder, comparison),
        "blocks": _blocks(folder, comparison),
        "columns": model_columns(comparison),
        "seeds": any(model.get("interval") == "samples and seeds" for model in models),
        "by_size": any(model.get("interval") == "Hanley-McNeil" for model in models),
        "models": [
            _opened(model, details.get(model["run"], {})) if rank < opened else {"model": model}
            for rank, model in enumerate(models)
        ],
    }


def _verdicts(models: Sequence[Model]) -> list[str]:
    """How many of the others differ from the best, and from how many it is not known."""
    counts = Counter(verdict(model).partition(",")[0] for model in models[1:])
    words = "lower", "higher", "not resolved"
    return [f"{counts[word]} {word}" for word in words if counts[word]]


def _headline(best: Model, monitor: str) -> str:
    """The test AUC of the best model; of a task that has no AUC, the score that picked it."""
    if best.get("auc_mean") is not None:
        bounds = (best.get(f"auc_{part}") for part in ("mean", "low", "high"))
        return f"test AUC {with_interval(*bounds)}"
    return f"validation {score_name(monitor)} {number(best['valid_score'])}"


def _run_columns(rows: Sequence[Row]) -> list[Column]:
    """The table of all runs."""
    heads, *lines = table_cells(rows, _RUN_COLUMNS)
    columns = []
    for name, head, texts in zip(_RUN_COLUMNS, heads, zip(*lines, strict=True), strict=True):
        is_text = name in ("job", "model", "variant", "state", "device", "run")
        first = "descending" if name in ("valid_auc", "auc", "accuracy") else "ascending"
        cells = [
            Cell(
                text,
                None if is_text else row["epochs" if name == "epoch" else name],
                row["device"] if name == "train_seconds" else None,
            )
            for text, row in zip(texts, rows, strict=True)
        ]
        columns.append(Column(name, head, cells, first, is_text=is_text))
    return columns


def _opened(model: Model, known: Mapping[str, Any]) -> dict[str, Any]:
    """What a click on a model shows."""
    return {
        "model": model,
        "recipe": known.get("recipe"),
        "log": known.get("log"),
        "figures": known.get("figures", {}),
        "numbers": [
            (name.replace("_", " "), f"{value:.6g}" if isinstance(value, float) else str(value))
            for name, value in model.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ],
    }


def _blocks(folder: Path, holder: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a comparison or of the page (`studies.block`), their figures as data URIs."""
    return [block | {"figures": _figures(folder, block)} for block in holder.get("blocks", ())]


def _figures(folder: Path, holder: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each figure as a data URI, and its caption."""
    return [(_figure(folder, f["name"]), f["caption"]) for f in holder["figures"]]


def _figure(folder: Path, name: str) -> str:
    """A figure of a comparison as a data URI: SVG, which print wants, or PNG if that is huge."""
    svg = (folder / f"{name}.svg").read_bytes()
    if len(svg) > _LARGEST_SVG:
        return _uri((folder / f"{name}.png").read_bytes(), "png")
    return _uri(svg, "svg+xml")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _hash(text: str) -> str:
    """As a policy names a style or a script that it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
