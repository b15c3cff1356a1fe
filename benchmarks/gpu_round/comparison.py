"""The long parts: the thirteen networks of one comparison, and how many labels they need.

All runs of a part train for as many epochs as there is time for, by rates measured first; the most
worthy come first, so that what is cut off are the last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from benchmarks.gpu_round.program import batch, metrics_of
from benchmarks.gpu_round.record import Round
from benchmarks.gpu_round.sets import images_of, main_set

__all__ = ["comparison", "labels"]

_TRAINED = 0.8  # of a simulated set: the rest is validation and test
_OVERHEAD = 1.5  # seconds of a run over those of its steps: evaluation, test, checkpoints
_START_SECONDS = 15.0  # of a run, besides


@dataclass(frozen=True)
class _Asked:
    """One run of a recipe."""

    name: str
    model: str
    words: tuple[str, ...] = ()
    share: float = 1.0  # of the training set


def comparison(round_: Round) -> None:
    """Every network of model_comparison.yaml from random weights, at 224 pixels."""
    recipe = "jobs/model_comparison.yaml"
    models = round_.sized(_grid(recipe)["model.name"], ["simple_cnn"])
    _train(round_, recipe, [_Asked(name, name) for name in models], "--model.pretrained=false")


def labels(round_: Round) -> None:
    """The shares of label_fraction.yaml, of its first network."""
    recipe = "jobs/label_fraction.yaml"
    grid = _grid(recipe)
    model = round_.sized(grid["model.name"][0], "simple_cnn")
    slices = round_.sized(grid["data.train"], ["train[:50%]"])
    asked = [
        _Asked(f"{model} of {_share(text):g}", model, (f"--data.train={text}",), _share(text))
        for text in slices
    ]
    _train(round_, recipe, asked)


def _grid(recipe: str) -> dict[str, list[str]]:
    return yaml.safe_load(Path(recipe).read_text())["grid"]


def _share(text: str) -> float:
    """The share of a split that a slice is: .03 of ``train[:3%]``."""
    return float(text.partition("[:")[2].rstrip("%]") or 100) / 100


def _train(round_: Round, recipe: str, asked: list[_Asked], *more: str) -> None:
    root = main_set(round_)
    words = (f"--device={round_.device}", f"--data.root={root}", *more)
    words += ("--data.size=32",) if round_.small else ()
    rates: dict[str, float] = {}
    round_.attempt("rates", lambda: rates.update(_rates(round_, recipe, asked, words)))
    most = round_.sized(yaml.safe_load(Path(recipe).read_text())["train"]["epochs"], 1)
    epochs = _epochs(round_.left(), asked, rates, images_of(root), most)
    round_.number("epochs", epochs, "")
    for one in asked:
        round_.attempt(f"{one.name}: a run", partial(_run, round_, recipe, one, epochs, words))


def _rates(
    round_: Round, recipe: str, asked: list[_Asked], words: tuple[str, ...]
) -> dict[str, float]:
    """Images a second of training of each network, by `bench`, of few steps."""
    out, steps = Path(f"{round_.part}.json"), round_.sized(10, 1)
    names = ",".join({one.model: None for one in asked})
    batch(
        "bench", recipe, f"--grid.model.name=[{names}]", "--grid.data.train=[train]",
        f"--steps={steps}", "--repeats=1", f"--out={out}", *words,
    )  # fmt: skip
    rates = {m["model"]: m["images_per_s"] for m in json.loads(out.read_text())["models"]}
    for model, rate in rates.items():
        round_.number(f"{model}: training", rate, "images/s")
    return rates


def _epochs(
    left: float, asked: list[_Asked], rates: dict[str, float], images: int, most: int
) -> int:
    """As many for all as fit into the time that is left, from one to `most`.

    Where a rate is not known they are three: what does not fit is cut off.
    """
    if any(one.model not in rates for one in asked):
        return min(most, 3)
    of_one = sum(_OVERHEAD * _TRAINED * images * one.share / rates[one.model] for one in asked)
    return int(min(most, max(1, (left - _START_SECONDS * len(asked)) / of_one)))


def _run(round_: Round, recipe: str, one: _Asked, epochs: int, words: tuple[str, ...]) -> None:
    name = f"{round_.part}-{one.name.replace(' ', '-')}"
    batch(
        "run", recipe, f"--name={name}", f"--model.name={one.model}", "--seed=0",
        f"--train.epochs={epochs}", *words, *one.words,
    )  # fmt: skip
    metrics = metrics_of(name)
    cost = metrics["cost"]
    for what, value, unit in (
        ("test AUC", metrics["test"]["scores"]["auc"], ""),
        ("train", cost["train_seconds"], "s"),
        ("energy", cost["joules"], "J"),
        ("peak memory", cost["peak_memory_gb"], "GB"),
    ):
        round_.number(f"{one.name}: {what}", value, unit)
