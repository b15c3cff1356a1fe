"""The tables of docs/performance.md, made from the files in benchmarks/results/.

A cell that no file has a number for says so. Of several files of one device a table takes the one
that has most of its cells, the newest among those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.documents import Document, read

__all__ = ["TABLES", "Table", "documents"]

RESULTS = Path(__file__).parent / "results"
_NONE = "not yet measured"
_GPU = "a GPU"  # the row, where no file is of one

Cell = tuple[str, str]  # part and name of a number


@dataclass(frozen=True)
class Table:
    """A head, and rows of as many cells."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    title: str = ""


def documents() -> list[Document]:
    """Every results file but those of rehearsals, the newest first.

    Raises:
        ValueError: One is no results file.
    """
    found = [read(path) | {"file": path.name} for path in sorted(RESULTS.glob("*.json"))]
    whole = [made for made in found if not made["machine"].get("small")]
    return sorted(whole, key=lambda made: made["machine"]["date"], reverse=True)


def _number(made: Document, cell: Cell) -> dict[str, object] | None:
    """The last of a name: what was measured again counts."""
    same = [n for n in made["numbers"] if (n["part"], n["name"]) == cell]
    return same[-1] if same and (same[-1]["value"] is not None or "least" in same[-1]) else None


def _shown(made: Document, cell: Cell) -> str:
    """A number, with least and most where it is a median; of some only these are known."""
    if (number := _number(made, cell)) is None:
        return _NONE
    shown = {
        key: _digits(cell[1], number[key])
        for key in ("value", "least", "most")
        if number.get(key) is not None
    }
    if number.get("repeats") == 1 or "least" not in shown:
        return shown["value"]
    spread = f"{shown['least']} to {shown['most']}"
    return f"{shown['value']} ({spread})" if "value" in shown else spread


def _digits(name: str, value: object) -> str:
    assert isinstance(value, int | float)
    if name.endswith("AUC"):
        return f"{value:.4f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _machine(made: Document) -> str:
    """The device and the day; of a card, which has many short rounds, the minute too."""
    facts = made["machine"]
    when = facts["date"][: 16 if facts["card"] else 10].replace("T", " ")
    return f"{facts['device']}, {when}"


def _chosen(found: Sequence[Document], cells: Sequence[Cell]) -> list[Document]:
    """Of each processor the document with most of the cells, of cards all; the newest first."""
    best: dict[str, tuple[int, Document]] = {}
    for made in found:
        facts = made["machine"]
        key = _machine(made) if facts["card"] else facts["device"]
        count = sum(_number(made, cell) is not None for cell in cells)
        if count > best.get(key, (0, made))[0]:
            best[key] = count, made
    return [made for _, made in best.values()]


def _by_device(
    found: Sequence[Document], columns: dict[str, Cell], *, more: Sequence[str] = ()
) -> Table:
    """A row for each device; `more` names facts of the machine, after it."""
    chosen = _chosen(found, [*columns.values()])
    rows = [
        (
            _machine(made),
            *(str(made["machine"].get(fact, "-")) for fact in more),
            *(_shown(made, cell) for cell in columns.values()),
        )
        for made in chosen
    ]
    if not any(made["machine"]["card"] for made in chosen):
        rows.append((_GPU, *["-"] * len(more), *[_NONE] * len(columns)))
    return Table(("device, date", *more, *columns), rows)


def machines(found: Sequence[Document]) -> Iterator[Table]:
    """Every file: what was checked, what could not be, and what did not come to its end."""
    rows = []
    for made in found:
        passed = [check["passed"] for check in made["checks"]]
        counts = ["-"] * 3
        if passed:
            counts = [str(passed.count(kind)) for kind in (True, False, None)]
        ends = [part["name"] for part in made["parts"] if part["state"] != "done"]
        link = f"[{made['file']}](../benchmarks/results/{made['file']})"
        rows.append((_machine(made), *counts, ", ".join(ends) or "-", link))
    head = ("device, date", "passed", "failed", "not tested", "parts failed or cut off", "file")
    yield Table(head, rows)


def training(found: Sequence[Document]) -> Iterator[Table]:
    """What `bench` tells."""
    step = "step through the data plane over one on a fixed batch"
    yield _by_device(found, {
        "ResNet18, step through the data plane / on one fixed batch": (
            "bench", f"resnet18: {step}"),
        "MobileNetV3-Small, the same": ("bench", f"mobilenetv3_small_100: {step}"),
        "loader / `DataLoader(num_workers=2)` over `.npy`": (
            "bench", "loader over a DataLoader of 2 workers"),
        "the same at 224 pixels": ("bench", "loader over a DataLoader of 2 workers, 224 pixels"),
        "packing / bare `np.load`": ("bench", "packing over a bare np.load"),
    })  # fmt: skip


_WAYS = (
    "batch 64, float32", "batch 64, bf16, channels_last", "batch 256, bf16, channels_last",
    "batch 64, bf16, channels_last, compiled", "batch 64, bf16, channels_last, graph",
)  # fmt: skip
_MORE_WAYS = ("ema", "host", "off")
_COUNTS = ("launches a step", "copies a step", "waits a step", "busy share of the GPU",
           "peak memory")  # fmt: skip


def steps(found: Sequence[Document]) -> Iterator[Table]:
    """For each card, ways to train: a bare loop, ours, and what ours asks of the device."""
    cells = [("throughput", f"{who}: {way}") for way in _WAYS for who in ("bare", "ours")]
    cards = [made for made in found if made["machine"]["card"]]
    for made in _chosen(cards, cells):
        yield Table(_STEPS_HEAD, [*_ways(made)], _machine(made))
    if not _chosen(cards, cells):
        yield Table(_STEPS_HEAD, [(way, *[_NONE] * (len(_STEPS_HEAD) - 1)) for way in _WAYS], _GPU)


_STEPS_HEAD = ("way", "bare, images/s", "ours, images/s", "ours / bare", *_COUNTS[:4],
               "peak memory, GB")  # fmt: skip


def _ways(made: Document) -> Iterator[tuple[str, ...]]:
    for way in (*_WAYS, *(f"{_WAYS[4]}, {more}" for more in _MORE_WAYS)):
        names = [f"bare: {way}", f"ours: {way}", f"ours over bare: {way}"]
        names += [f"ours: {way}: {count}" for count in _COUNTS]
        shown = [_shown(made, ("throughput", name)) for name in names]
        if way.endswith(_MORE_WAYS):
            shown[0] = shown[2] = "-"
        yield way, *shown
    loading = ("throughput", "loader alone: batch 64, float32")
    yield "the loader alone", "-", _shown(made, loading), *["-"] * 6


def peers(found: Sequence[Document]) -> Iterator[Table]:
    """Ours beside timm's components and Lightning's Trainer, by device and setting."""
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    for made in found:
        names = [n["name"] for n in made["numbers"] if n["part"] == "peers"]
        for setting in (n.removesuffix(": ours") for n in names if n.endswith(": ours")):
            shown = [_shown(made, ("peers", f"{setting}: {name}")) for name in _PEERS.values()]
            rows.setdefault(
                (made["machine"]["device"], setting), (_machine(made), setting, *shown)
            )
    cards = {made["machine"]["card"] for made in found}
    if not any(device in cards for device, _ in rows):
        rows[_GPU, ""] = (_GPU, "-", *[_NONE] * len(_PEERS))
    yield Table(("device, date", "setting", *_PEERS), [*rows.values()])


_PEERS = {
    "ours, images/s": "ours", "timm's": "timm", "Lightning's": "lightning",
    "ours / timm's": "ours over timm", "ours / Lightning's": "ours over lightning",
}  # fmt: skip


def job(found: Sequence[Document]) -> Iterator[Table]:
    """The main job, in bf16 with channels_last and in float32."""
    for way, title in (("fast", "bf16, channels_last"), ("float32", "float32")):
        trained = [made for made in found if _number(made, ("training", f"{way}: training"))]
        table = _by_device(trained, {
            "images": ("training", "images of the set"), "epochs": ("training", f"{way}: epochs"),
            "test AUC": ("training", f"{way}: test AUC"),
            "training, images/s": ("training", f"{way}: training"),
            "training, s": ("training", f"{way}: train"),
            "evaluation, s": ("training", f"{way}: evaluate"),
            "other wall time, s": ("training", f"{way}: neither training nor evaluation"),
            "energy, J": ("training", f"{way}: energy"),
        })  # fmt: skip
        yield Table(table.head, table.rows, title)


def options(found: Sequence[Document]) -> Iterator[Table]:
    """What options cost or gain, and the host."""
    yield _by_device(found, {
        "host's time for a launch, us": ("machine", "host's time for a launch"),
        "rate with `engine.graph: off` / `auto`": ("training", "launched: training, times fast"),
        "rate with `engine.deterministic: true` / `false`": (
            "training", "deterministic: training, times fast"),
    })  # fmt: skip


def simulator(found: Sequence[Document]) -> Iterator[Table]:
    """Images/s of each class of three presets, and of whole sets."""
    presets, classes = ("common_test_1", "parity", "physical"), ("no", "sphere", "vort")
    cells = {(p, c): ("simulator", f"{p}, {c}") for p in presets for c in classes}
    for made in _chosen(found, [*cells.values()]):
        rows = []
        for preset in presets:
            shown = []
            for name in classes:
                ratio = "simulator", f"{preset}, {name}: times lenstronomy"
                times = _shown(made, ratio) if _number(made, ratio) else ""
                times = times and f"; {times} times"
                shown.append(_shown(made, cells[preset, name]) + times)
            rows.append((f"`{preset}`", *shown))
        yield Table(("preset", *(f"`{name}`" for name in classes)), rows, _machine(made))
    yield _by_device(found, {
        "a whole set by the cores, images/s": ("data", "simulated by the cores"),
        "by the GPU, images/s": ("data", "simulated by the device"),
    }, more=("cores",))  # fmt: skip


def predictions(found: Sequence[Document]) -> Iterator[Table]:
    """Predict and sample."""
    yield _by_device(found, {
        "`predict` from shards / the network alone": ("predict", "resnet18: from shards"),
        "from `.npy` files / the network alone": ("predict", "resnet18: from .npy files"),
        "`predict`, start included, images/s": ("verbs", "predict, with its start"),
        "`diffusion_edm`, training, images/s": ("verbs", "diffusion_edm: training"),
        "`sample`, 25 steps, start included, images/s": (
            "verbs", "sample, 25 steps, with its start"),
    })  # fmt: skip


def many(found: Sequence[Document]) -> Iterator[Table]:
    """Planning and collecting."""
    names = {
        "runs": "runs", "test samples of each": "test samples of each",
        "`submit --dry_run`, s": "submit --dry_run of a grid", "`status`, s": "status",
        "`collect`, s": "collect", "its memory, GB": "collect: peak memory",
        "its page, MB": "collect: page",
        "2,000 resamples of an AUC / scikit-learn": (
            "2000 resamples of a macro AUC: times scikit-learn"),
    }  # fmt: skip
    table = _by_device(found, {head: ("many runs", name) for head, name in names.items()})
    yield Table(table.head, [row for row in table.rows if row[0] != _GPU])


_NETWORKS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "efficientnet_b0",
    "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5",
    "mobilenetv3_small_100", "mobilenetv3_large_100",
)  # fmt: skip
_SHARES = ("0.01", "0.03", "0.1", "0.3", "1")


def comparison(found: Sequence[Document]) -> Iterator[Table]:
    """The thirteen networks, and how the score grows with labels."""
    columns = {
        "training, images/s": "training", "training, s": "train", "energy, J": "energy",
        "peak memory, GB": "peak memory", "test AUC": "test AUC",
    }  # fmt: skip
    yield from _of_runs(found, "comparison", "network", _NETWORKS, columns)
    of = [f"resnet18 of {share}" for share in _SHARES]
    columns = {"training, s": "train", "test AUC": "test AUC"}
    yield from _of_runs(found, "labels", "share of the labels", of, columns)


def _of_runs(
    found: Sequence[Document], part: str, what: str, names: Sequence[str], columns: dict[str, str]
) -> Iterator[Table]:
    """A table for each device that has trained them; a row that says so where none has."""
    chosen = _chosen(found, [(part, f"{n}: {c}") for n in names for c in columns.values()])
    for made in chosen:
        rows = []
        for name in names:
            cells = [(part, f"{name}: {column}") for column in columns.values()]
            shown = name.replace("resnet18 of", "ResNet18,")
            rows.append((shown, *(_shown(made, cell) for cell in cells)))
        epochs = _shown(made, (part, "epochs"))
        yield Table((what, *columns), rows, f"{_machine(made)}, {epochs} epochs")
    if not chosen:
        yield Table((what, *columns), [("each", *[_NONE] * len(columns))], _GPU)


TABLES: dict[str, Callable[[Sequence[Document]], Iterator[Table]]] = {
    "machines": machines, "training": training, "steps": steps, "peers": peers, "job": job,
    "options": options, "simulator": simulator, "predictions": predictions, "many": many,
    "comparison": comparison,
}  # fmt: skip
