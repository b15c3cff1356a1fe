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
from typing import Any

from deeplense_batch.report.columns import Column, model_columns, number, score_names

__all__ = ["latex_table"]

_OPENING = r"""% The models of a comparison, written by deeplense_batch.
% Needs \usepackage{booktabs}; then \input{models}. It fits a text 160 mm wide, and spans both
% columns of a page that has two."""
_LINES = 60  # of a table; more do not fit on a page
_LETTERS = 18  # of a line of a name, about
_SIGN = re.compile(r"[_=,/>-]|\.(?=\D)")  # after which a name may go on in the next line
_LIGATURE = re.compile(r"-(?=-)")  # two hyphens are not to become a dash
_OTHERS = 3  # scores of a task that has no AUC
_SHORT = {"auc_sd": "sd", "difference": "difference", "parameters_m": "par."}  # heads

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


def latex_table(content: Mapping[str, Any]) -> str:
    r"""Write `models.tex`: a ``table*`` for each comparison, to \input beside booktabs.

    Bold are the best by validation and all whose difference to it is not resolved. Of models that
    do not fit on a page the first are there, and the caption says so.

    Arguments:
        content: What `results.json` holds.
    """
    tables = [_table(comparison, content["missing"]) for comparison in content["comparisons"]]
    return "\n\n".join([_OPENING, *(tables or ["% No run is done: there is no table."])]) + "\n"


def _table(comparison: Mapping[str, Any], missing: str) -> str:
    models = _fitting(comparison["models"])
    devices = sorted({model["device"] for model in models if model["device"]})
    columns = _columns(comparison, models)
    heads = ["model", "seeds", *map(_head, columns)]
    bold = (0, 2) if score_names(models) else (0,)  # the name and the first score
    lines = [
        r"\begin{table*}",
        rf"\caption{{{_caption(comparison, missing, devices)}}}",
        rf"\label{{tab:models-{comparison['number']}}}\smallskip",
        r"\centering\footnotesize\setlength{\tabcolsep}{2.5pt}",
        rf"\begin{{tabular}}{{@{{}}p{{28mm}}{'r' * (len(heads) - 1)}@{{}}}}",
        r"\toprule",
        _line(heads),
        r"\midrule",
    ]
    for index, model in enumerate(models):
        cells = [_name(model["label"]), number(model["runs"], 0)]
        cells += [_cell(column, index, devices) for column in columns]
        if model.get("resolved") is False or (index == 0 and model["valid_score"] is not None):
            cells = [rf"\textbf{{{c}}}" if i in bold else c for i, c in enumerate(cells)]
        lines.append(r"\raggedright " + _line(cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}"])


def _columns(comparison: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> list[Column]:
    """AUC with its sd and difference to the best, and accuracy; else the scores of the task."""
    names = score_names(models)
    scores = names[:_OTHERS]
    if "auc" in names:
        scores = ["auc", "auc_sd", "difference", "accuracy"]
    wanted = (*scores, "parameters_m", "train_seconds")
    by_name = {column.name: column for column in model_columns({**comparison, "models": models})}
    return [by_name[name] for name in wanted if name in by_name]


def _head(column: Column) -> str:
    head = "time" if column.name == "train_seconds" else _SHORT.get(column.name, column.head)
    return _escaped(f"{head} ({column.unit})" if column.unit else head)


def _cell(column: Column, index: int, devices: Sequence[str]) -> str:
    """The cell of a model; a time is marked by its device where there are several."""
    text, value, device = column.cells[index]
    if column.name == "accuracy":
        return number(value)  # an interval more would not fit
    mark = _mark(devices.index(device)) if device and len(devices) > 1 else ""
    return f"{_escaped(text)}{mark}"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _fitting(models: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The first models, as many as fit on a page."""
    lines = accumulate(-(-len(model["label"]) // _LETTERS) for model in models)
    return models[: sum(line <= _LINES for line in lines) or 1]


def _caption(comparison: Mapping[str, Any], missing: str, devices: Sequence[str]) -> str:
    models = comparison["models"]
    shown, samples = _fitting(models), comparison["test_samples"]
    picked = models[0]["valid_score"] is not None  # published results may know no validation
    brackets = any(m.get(f"{n}_low") is not None for m in shown for n in score_names(shown))
    by_size = any(m.get("interval") == "Hanley-McNeil" for m in shown)
    seeds = any(m.get("interval") == "samples and seeds" for m in shown)
    parts = [
        f"{missing[:1].upper()}{missing[1:]}." if missing else "",
        f"{comparison['heading']}{'' if samples is None else f'; {samples} test samples'}.",
        "Models are ordered by their validation score." if picked else "",
        "Scores are of the test slice, means over the seeds.",
        f"Brackets: 95% intervals, by {'test samples and seeds' if seeds else 'the test samples'}."
        if brackets
        else "",
        "*: by their number alone (Hanley and McNeil)." if by_size else "",
        "The sd is over the seeds." if any(model["auc_sd"] is not None for model in shown) else "",
        "Differences are in AUC, to the best; bold: not resolved (p, after Holm, is 0.05 or more)."
        if "auc" in score_names(shown) and any(m["difference"] is not None for m in shown)
        else "",
        f"The first {len(shown)} of {len(models)} models." if len(models) > len(shown) else "",
    ]
    text = _escaped(" ".join(filter(None, parts)))
    if len(devices) == 1:
        return f"{text} Training on {_escaped(devices[0])}."
    marked = [f"{_mark(index)}{_escaped(device)}" for index, device in enumerate(devices)]
    named = f" Training times are not comparable between devices: {'; '.join(marked)}."
    return text + named if devices else text


def _mark(index: int) -> str:
    """The letter of a device, raised; after z comes aa."""
    return rf"\textsuperscript{{{ascii_lowercase[index % 26] * (index // 26 + 1)}}}"


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
