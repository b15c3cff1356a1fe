"""The LaTeX tables: what is in them, and that a plain pdflatex sets them."""

from __future__ import annotations

import re
import subprocess

import pytest
from conftest import PATIENCE, require_programs
from report_content import NASTY, comparison, content, model, row, usual

from deeplense_batch.report.pages.latex import latex_table

DOCUMENT = r"""\documentclass[a4paper]{article}
\usepackage[margin=25mm]{geometry}
\usepackage{booktabs}
\begin{document}
\input{models}
\end{document}
"""


def lines_of(text):
    """Lines of models, by their first cell."""
    found = re.findall(r"^\\raggedright (.*) \\\\$", text, re.M)
    return {line.partition(" & ")[0]: line.split(" & ") for line in found}


def of_label(label):
    """The table of one model of that name."""
    return latex_table(content([comparison([model(1, label)])], [row(0)]))


def pdf(folder, text):
    """Set the tables by pdflatex: what it has to say."""
    require_programs("pdflatex")
    (folder / "models.tex").write_text(text, encoding="utf-8")
    (folder / "paper.tex").write_text(DOCUMENT)
    words = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex")
    answer = subprocess.run(words, cwd=folder, capture_output=True, timeout=PATIENCE)
    log = (folder / "paper.log").read_text(errors="replace")
    assert answer.returncode == 0, log[-3000:]
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
    return log


def test_a_line_holds_the_numbers_of_its_model():
    text = latex_table(usual())
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == 1
    assert (
        r"\label{tab:models-1}" in text and r"\usepackage{booktabs}" in text.partition("\n\n")[0]
    )
    lines = lines_of(text)
    assert len(lines) == 6
    assert lines["lens\\_\\allowbreak{}vit"] == [
        "lens\\_\\allowbreak{}vit", "3", "0.9757 [0.973, 0.978]", "0.0007",
        r"\ensuremath{-}0.0145 [\ensuremath{-}0.0160, \ensuremath{-}0.0131]", "0.9357", "67.0",
        "11.7",
    ]  # fmt: skip


def test_the_best_and_its_equals_are_bold():
    lines = lines_of(latex_table(usual()))
    bold = [first for first in lines if first.startswith(r"\textbf{")]
    assert len(bold) == 4 and lines[r"\textbf{resnet18}"][2].startswith(r"\textbf{0.9902 [")
    assert lines[r"\textbf{resnet18}"][4] == "-"  # it is the best: there is no difference


def test_unknown_numbers_are_dashes_and_empty_columns_left_out():
    unknown = {name: None for name in model(1, "x") if name not in ("place", "label")}
    models = [model(1, "a", parameters_m=None), model(2, "b", **unknown)]
    text = latex_table(content([comparison(models)], [row(0)]))
    assert lines_of(text)["b"] == ["b", "-", "-", "-", "-", "-"]  # no difference, no parameters
    assert "par. (M)" not in text and "Differences" not in text


def test_a_task_without_auc_shows_its_own_scores():
    unknown = {name: None for name in model(1, "x") if "auc" in name or "acc" in name}
    models = [model(1, "a", **unknown, r_2_mean=0.83, r_2_low=0.81, r_2_high=0.85)]
    text = latex_table(content([comparison(models)], [row(0)]))
    assert r"model & seeds & r 2 & par. (M)" in text
    assert r"\textbf{0.8300 [0.810, 0.850]}" in text and "sd" not in text


def test_times_are_marked_by_their_device_where_there_are_several():
    models = [model(1, "a", device="CPU & co"), model(2, "b"), model(3, "c", train_seconds=None)]
    text = latex_table(content([comparison(models)], [row(0)]))
    assert r"\textsuperscript{a}CPU \& co; \textsuperscript{b}NVIDIA A100." in text
    lines = lines_of(text)
    ends = [lines[name][-1] for name in (r"\textbf{a}", r"\textbf{b}", r"\textbf{c}")]
    assert ends == [r"53.3\textsuperscript{a}", r"28.3\textsuperscript{b}", "-"]
    models = [model(place, f"m{place}", device=f"node {place:02d}") for place in range(1, 29)]
    text = latex_table(content([comparison(models)], [row(0)]))
    assert r"\textsuperscript{z}node 26; \textsuperscript{aa}node 27;" in text
    assert "Training on NVIDIA A100." in latex_table(usual())


def test_an_incomplete_or_cut_table_says_so():
    models = [model(place, f"m{place}") for place in range(1, 201)]
    text = latex_table(content([comparison(models)], [row(0), row(1, state="failed")]))
    assert r"\caption{Incomplete: 1 of 2 runs done. Data 1a2b" in text
    assert "The first 60 of 200 models." in text and len(lines_of(text)) == 60
    tables = [comparison([model(1, "a")], heading="Data", test_samples=None)]
    assert r"\caption{Data. Models are ordered" in latex_table(content(tables, [row(0)]))
    tables = [comparison([model(1, "a", valid_score=None, resolved=None)], heading="Data")]
    text = latex_table(content(tables, [row(0)]))
    assert r"\caption{Data; 3750 test samples. Scores" in text and "textbf" not in text
    empty = latex_table(content([], [row(0, state="failed")]))
    assert "table*" not in empty.replace("% ", "").partition("\n\n")[2]
    assert "% No run is done" in empty


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("100% & #1 $x", r"100\% \& \#1 \$x"),
        ("{a}^~", r"\{a\}\textasciicircum{}\textasciitilde{}"),
        ("a\\b\nc", r"a\textbackslash{}b c"),
        ("naïve — \N{GREEK SMALL LETTER ALPHA}", r"naïve — \ensuremath{\alpha}"),
        ("模\x00", "[U+6A21][U+0000]"),
        ("lr=0.1,a.b", r"lr=\allowbreak{}0.1,\allowbreak{}a.\allowbreak{}b"),
        ("a_b--c", r"a\_\allowbreak{}b-\allowbreak{}-\allowbreak{}c"),
    ],
)  # fmt: skip
def test_every_character_is_escaped(label, written):
    assert rf"\raggedright \textbf{{{written}}} & 3" in of_label(label)


def test_hyphens_are_no_dash():
    tables = [comparison([model(1, "a")], heading="a---b")]
    assert "a-{}-{}-b; 3750" in latex_table(content(tables, [row(0)]))


def test_pdflatex_sets_the_usual_table_within_its_width(tmp_path):
    assert "Overfull" not in pdf(tmp_path, latex_table(usual()))


def test_pdflatex_sets_names_of_any_characters(tmp_path):
    everything = "".join(
        map(chr, [*range(1, 0x250), *range(0x370, 0x400), *range(0x2000, 0x2300)])
    )
    names = [*NASTY, *re.findall(".{1,40}", everything + chr(0x1F52D) + chr(0xDC80))]
    models = [model(place, name, device=name) for place, name in enumerate(names[:12], start=1)]
    others = [model(place, name) for place, name in enumerate(names[12:], start=1)]
    parts = [others[place : place + 6] for place in range(0, len(others), 6)]
    tables = [comparison(models, heading=" ".join(NASTY))]
    tables += [comparison(part, number=number) for number, part in enumerate(parts, start=2)]
    text = latex_table(content(tables, [row(0), row(1, state="lost")]))
    assert "Missing character" not in pdf(tmp_path, text)
