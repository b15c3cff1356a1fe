"""The comparison as one page for a browser: tables to sort and filter, and its figures.

Style, script and the figures of the comparison are inside the page. The figures of single models
lie beside it, in `models/`, and are loaded when a model is opened, from a disk as from a server;
one that is not there is said to be missing. The page's policy forbids the browser to load anything
but pictures, and every text in it is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deeplense_batch.report.columns import (
    beside_real,
    interval,
    number,
    p_value,
    score_name,
    score_names,
    table_cells,
    time_unit,
    with_real,
)
from deeplense_batch.report.run_table import Row

__all__ = ["OPENED", "web_page"]

_HERE = Path(__file__).parent
OPENED = 400  # models that open in the page: some 4 kB each, and figures beside it
_LARGEST_SVG = 400_000  # bytes; a figure of more marks than that is smaller as PNG
_BROKEN = ("failed", "lost", "unreadable", "stopped")  # what a person has to look at
_BROKEN_COLUMNS = ("job", "run", "state", "reason", "log")
_RUN_COLUMNS = {  # and their heads
    **{name: name for name in ("job", "model", "variant", "seed", "state", "epoch")},
    **{"valid_auc": "valid AUC", "auc": "test AUC", "accuracy": "accuracy"},
    **{"train_seconds": "training, s", "device": "device", "run": "run"},
}

_HIGH = ("accuracy", "auc", "diversity", "precision", "recall")  # ends of names; more is better

Model = Mapping[str, Any]


class _Cell(NamedTuple):
    text: str
    value: float | None = None  # what it is sorted by, where that is a number
    group: str | None = None  # sorted by before: seconds of two devices do not compare


class _Column(NamedTuple):
    head: str
    first: str  # how the first click sorts: ascending or descending
    cells: Sequence[_Cell]
    is_text: bool = False


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
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((_HERE / f"template.{kind}").read_text() for kind in ("css", "js"))
    rows = content["rows"]
    broken = [row for row in rows if row["state"] in _BROKEN]
    left = OPENED
    sections = []
    for comparison in content["comparisons"]:
        sections.append(_section(comparison, folder, details, left))
        left -= len(comparison["models"])
    page = environment.get_template("template.html").render(
        content=content,
        sections=sections,
        broken=[[*cells] for cells in table_cells(broken, _BROKEN_COLUMNS)],
        runs=_run_columns(rows),
        states=[row["state"] for row in rows],
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    return page.encode("utf-8", "backslashreplace").decode()  # a path may hold what is no text


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
        "picked": best["valid_score"] is not None,  # published results may know no validation
        "best": best["label"],
        "score": _headline(best),
        "tied": sum(bool(model["tied"]) for model in models[1:]),
        "pareto": any(model["pareto"] for model in models),
        "devices": len({model["device"] for model in models if model["device"]}),
        "figures": [(_figure(folder, f["name"]), f["caption"]) for f in comparison["figures"]],
        "columns": _model_columns(models, comparison["classes"]),
        "models": [
            _opened(model, details.get(model["run"], {})) if place < opened else {"model": model}
            for place, model in enumerate(models)
        ],
    }


def _headline(best: Model) -> str:
    """The test AUC of the best; of a task without one, the score that it was picked by."""
    if best.get("auc_mean") is not None:
        return f"test AUC {interval(*_bounds(best, 'auc'))}"
    return f"validation score {number(best['valid_score'])}"


def _model_columns(models: Sequence[Model], classes: Sequence[str]) -> list[_Column]:
    """The numbers of the models; a column that knows none is left out."""
    named = {"auc", "accuracy", *(f"auc_{name}" for name in classes)}
    own = [name for name in score_names(models) if name not in named]
    differs = any(model["valid_score"] != model["valid_auc"] for model in models)
    differences = [
        interval(m["difference"], m["difference_low"], m["difference_high"], signed=True)
        for m in models
    ]
    p_values = _cells([p_value(model["p_value"]) for model in models], models, "p_value")
    columns = [
        *([_numbers("valid score", models, "valid_score")] if differs else []),
        _numbers("valid AUC", models, "valid_auc"),
        *_scores("test AUC", models, "auc"),
        _Column("difference to the best", "descending", _cells(differences, models, "difference")),
        _Column("p", "ascending", p_values),
        *_scores("accuracy", models, "accuracy"),
        *(column for name in own for column in _scores(score_name(name), models, name)),
        *(
            _Column(
                f"{score_name(name)} (real)",
                "descending" if name.endswith(_HIGH) else "ascending",
                _cells([beside_real(model, name) for model in models], models, name),
            )
            for name in with_real(models)
        ),
        _numbers("ECE", models, "ece", "ascending"),
        _numbers("ECE, calibrated", models, "ece_calibrated", "ascending"),
        *_costs(models),
        *(_numbers(f"AUC {name}", models, f"auc_{name}_mean") for name in classes),
    ]
    return [column for column in columns if any(cell.text != "-" for cell in column.cells)]


def _scores(head: str, models: Sequence[Model], name: str) -> list[_Column]:
    """A score with its interval, and its sd."""
    texts = [interval(*_bounds(model, name)) for model in models]
    return [
        _Column(head, "descending", _cells(texts, models, f"{name}_mean")),
        _numbers(f"{head.removeprefix('test ')} sd", models, f"{name}_sd", "ascending"),
    ]


def _costs(models: Sequence[Model]) -> list[_Column]:
    """Seconds of training, in the unit that suits them, with their device; and what has none."""
    known = [m["train_seconds"] for m in models if m["train_seconds"] is not None]
    unit, length = time_unit(known or [0.0])
    times = [
        _Cell(number(seconds / length, 1), seconds, model["device"])
        if (seconds := model["train_seconds"]) is not None
        else _Cell("-")
        for model in models
    ]
    devices = [_Cell(model["device"] or "-") for model in models]
    return [
        _Column(f"training, {unit}", "ascending", times),
        _Column("device", "ascending", devices, is_text=True),
        _numbers(
            "reference GPU\N{NON-BREAKING HYPHEN}hours", models, "reference_hours", "ascending", 3
        ),
        _numbers("parameters, M", models, "parameters_m", "ascending", 1),
        _numbers("GFLOPs", models, "gflops", "ascending", 2),
    ]


def _run_columns(rows: Sequence[Row]) -> list[_Column]:
    """The table of all runs."""
    _, *lines = table_cells(rows, [*_RUN_COLUMNS])
    columns = []
    for place, (name, head) in enumerate(_RUN_COLUMNS.items()):
        values = [row["epochs" if name == "epoch" else name] for row in rows]
        devices = [row["device"] if name == "train_seconds" else None for row in rows]
        is_text = name in ("job", "model", "variant", "state", "device", "run")
        first = "descending" if name in ("valid_auc", "auc", "accuracy") else "ascending"
        cells = [
            _Cell(line[place], None if is_text else value, device)
            for line, value, device in zip(lines, values, devices, strict=True)
        ]
        columns.append(_Column(head, first, cells, is_text))
    return columns


def _numbers(
    head: str, models: Sequence[Model], name: str, first: str = "descending", digits: int = 4
) -> _Column:
    return _Column(
        head, first, _cells([number(m.get(name), digits) for m in models], models, name)
    )


def _bounds(model: Model, name: str) -> tuple[float | None, ...]:
    return tuple(model.get(f"{name}_{part}") for part in ("mean", "low", "high"))


def _cells(texts: Sequence[str], models: Sequence[Model], name: str) -> list[_Cell]:
    return [_Cell(text, model.get(name)) for text, model in zip(texts, models, strict=True)]


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
