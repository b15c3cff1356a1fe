r"""The models of a comparison as LaTeX tables, for a paper to \input.

Every text may hold any character. What LaTeX gives a meaning is escaped, Greek letters and a few
signs become mathematics, and a character that pdflatex cannot set without further packages is
shown as its number: [U+4E2D].
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import accumulate
from string import ascii_lowercase
from typing import Any, NamedTuple

from deeplense_batch.report.columns import interval, number, score_names, time_unit

__all__ = ["latex_table"]

_OPENING = r"""% The models of a comparison, written by deeplense_batch.
% Needs \usepackage{booktabs}; then \input{models}. It fits a text 160 mm wide, and spans both
% columns of a page that has two."""
_LINES = 60  # of a table; more do not fit on a page
_LETTERS = 18  # of a line of a name, about
_SIGN = re.compile(r"[_=,/>-]|\.(?=\D)")  # after which a name may go on in the next line
_LIGATURE = re.compile(r"-(?=-)")  # two hyphens are not to become a dash
_OTHERS = 3  # scores of a task that has no AUC

_ESCAPES = {
    **{sign: f"\\{sign}" for sign in "&%$#{}"},
    "_": r"\_",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    '"': r"\textquotesingle\textquotesingle{}",
    "\N{ZERO WIDTH SPACE}": r"\allowbreak{}",
}
_SMALL = (
    r"\alpha \beta \gamma \delta \epsilon \zeta \eta \theta \iota \kappa \lambda \mu \nu \xi o "
    r"\pi \rho \varsigma \sigma \tau \upsilon \phi \chi \psi \omega"
)
_CAPITAL = (  # the dot is in the place of a letter that Unicode left out
    r"A B \Gamma \Delta E Z H \Theta I K \Lambda M N \Xi O \Pi P . "
    r"\Sigma T \Upsilon \Phi X \Psi \Omega"
)
_MATHEMATICS = {
    **{chr(code): name for code, name in enumerate(_SMALL.split(), start=0x3B1)},
    **{chr(code): name for code, name in enumerate(_CAPITAL.split(), start=0x391)},
    **{"\N{MINUS SIGN}": "-", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx"},
    **{"→": r"\to", "∞": r"\infty", "²": "^2", "³": "^3"},
    **{"\N{MULTIPLICATION SIGN}": r"\times", "±": r"\pm"},
}
_PLAIN = frozenset(
    "æÆœŒøØßłŁ¡¿§¶©®°µ·“”…†‡•€£\N{EN DASH}\N{EM DASH}"
    "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
)
_ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c")


class _Column(NamedTuple):
    head: str
    cells: Sequence[str]  # of each model
    align: str = "r"
    bold: bool = False  # for the best and its equals


def latex_table(content: Mapping[str, Any]) -> str:
    r"""Write `models.tex`: a ``table*`` for each comparison, to \input beside booktabs.

    Bold are the best by validation and all that cannot be told from it. Of models that do not
    fit on a page the first are there, and the caption says so.

    Arguments:
        content: What `results.json` holds.
    """
    tables = [_table(comparison, content["missing"]) for comparison in content["comparisons"]]
    return "\n\n".join([_OPENING, *(tables or ["% No run is done: there is no table."])]) + "\n"


def _table(comparison: Mapping[str, Any], missing: str) -> str:
    models = _fitting(comparison["models"])
    devices = sorted({model["device"] for model in models if model["device"]})
    columns = [
        _Column("model", [_name(m["label"]) for m in models], "p{28mm}", bold=True),
        _Column("seeds", [number(model["runs"], 0) for model in models]),
        *_scores(models),
        _Column("par. (M)", [number(model["parameters_m"], 1) for model in models]),
        *_times(models, devices),
    ]
    columns = [column for column in columns if any(cell != "-" for cell in column.cells)]
    lines = [
        r"\begin{table*}",
        rf"\caption{{{_caption(comparison, missing, devices)}}}",
        rf"\label{{tab:models-{comparison['number']}}}\smallskip",
        r"\centering\footnotesize\setlength{\tabcolsep}{2.5pt}",
        rf"\begin{{tabular}}{{@{{}}{''.join(column.align for column in columns)}@{{}}}}",
        r"\toprule",
        _line([column.head for column in columns]),
        r"\midrule",
    ]
    for place, model in enumerate(models):
        best = model["tied"] or (place == 0 and model["valid_score"] is not None)
        cells = [
            rf"\textbf{{{c.cells[place]}}}" if best and c.bold else c.cells[place] for c in columns
        ]
        lines.append(r"\raggedright " + _line(cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}"])


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _fitting(models: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The first models, as many as fit on a page."""
    lines = accumulate(-(-len(model["label"]) // _LETTERS) for model in models)
    return models[: sum(line <= _LINES for line in lines) or 1]


def _scores(models: Sequence[Mapping[str, Any]]) -> list[_Column]:
    """AUC with its sd and difference to the best, and accuracy; else the scores of the task."""
    names = score_names(models)
    if "auc" not in names:
        heads = [_escaped(name.replace("_", " ")) for name in names[:_OTHERS]]
        return [
            _Column(head, _intervals(models, name), bold=not place)
            for place, (head, name) in enumerate(zip(heads, names, strict=False))
        ]
    differences = [
        interval(m["difference"], m["difference_low"], m["difference_high"], signed=True)
        for m in models
    ]
    return [
        _Column("test AUC", _intervals(models, "auc"), bold=True),
        _Column("sd", [number(model["auc_sd"]) for model in models]),
        _Column("difference", [_escaped(text) for text in differences]),
        _Column("accuracy", [number(model["accuracy_mean"]) for model in models]),
    ]


def _intervals(models: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    keys = (f"{name}_mean", f"{name}_low", f"{name}_high")
    return [_escaped(interval(*map(model.get, keys))) for model in models]


def _times(models: Sequence[Mapping[str, Any]], devices: Sequence[str]) -> list[_Column]:
    """Training times, marked by their device where there are several."""
    known = [model["train_seconds"] for model in models if model["train_seconds"] is not None]
    if not known:
        return []
    unit, length = time_unit(known)
    cells = []
    for model in models:
        seconds = model["train_seconds"]
        cell = number(None if seconds is None else seconds / length, 1)
        marked = seconds is not None and len(devices) > 1 and model["device"]
        cells.append(f"{cell}{_mark(devices.index(model['device']))}" if marked else cell)
    return [_Column(f"time ({unit})", cells)]


def _caption(comparison: Mapping[str, Any], missing: str, devices: Sequence[str]) -> str:
    models = comparison["models"]
    shown, samples = _fitting(models), comparison["test_samples"]
    picked = models[0]["valid_score"] is not None  # published results may know no validation
    brackets = any(m.get(f"{n}_low") is not None for m in shown for n in score_names(shown))
    parts = [
        f"{missing[:1].upper()}{missing[1:]}." if missing else "",
        f"{comparison['heading']}{'' if samples is None else f'; {samples} test samples'}.",
        "Models in the order of validation, the best first." if picked else "",
        "Scores of the test slice, means over the seeds.",
        "Brackets: 95% intervals by the test samples." if brackets else "",
        "The sd is over the seeds." if any(model["auc_sd"] is not None for model in shown) else "",
        "Differences are in AUC, to the best; bold: not distinguishable from it."
        if any(model["difference"] is not None for model in shown)
        else "",
        f"The first {len(shown)} of {len(models)} models." if len(models) > len(shown) else "",
    ]
    text = _escaped(" ".join(filter(None, parts)))
    if len(devices) == 1:
        return f"{text} Training on {_escaped(devices[0])}."
    marked = [f"{_mark(place)}{_escaped(device)}" for place, device in enumerate(devices)]
    named = f" Training times of different devices do not compare: {'; '.join(marked)}."
    return text + named if devices else text


def _mark(place: int) -> str:
    """The letter of a device, raised; after z comes aa."""
    return rf"\textsuperscript{{{ascii_lowercase[place % 26] * (place // 26 + 1)}}}"


def _escaped(text: str) -> str:
    r"""Text as LaTeX sets it; white space, also a new line, is one space."""
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    return _LIGATURE.sub("-{}", "".join(map(_set, composed)))


def _name(text: str) -> str:
    """The label of a model, which may break after a sign: it is long, and has few spaces."""
    return _escaped(_SIGN.sub("\\g<0>\N{ZERO WIDTH SPACE}", text))


def _set(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character in _MATHEMATICS:
        return rf"\ensuremath{{{_MATHEMATICS[character]}}}"
    parts = unicodedata.normalize("NFD", character)
    accented = character < "\u0180" and parts[0].isascii() and parts[1:] in _ACCENTS
    if (character.isascii() and character.isprintable()) or character in _PLAIN or accented:
        return character
    return f"[U+{ord(character):04X}]"
