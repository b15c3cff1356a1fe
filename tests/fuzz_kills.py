"""Kill the program at random, sometimes damage what it left, and start it again.

    python tests/fuzz_kills.py COUNT SEED

A run, a submit, a pack, one part of a simulation, a collect or a predict is killed at a moment
drawn at random: before a certain touch of the disk, or after some time. Of some, a file that it
left is damaged (`damage`). `status` and `collect` must then go on with the undamaged run beside
it. Started again, it ends with exactly the result of one that was never killed; only where a file
was damaged it may refuse, in a sentence that names the file or its folder and with a documented
exit code. No traceback, no hang, no wrong result.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from conftest import write_split
from damage import DAMAGES, damage
from hostile_sources import make_source, npy

from deeplense_batch.__main__ import main
from deeplense_batch.core.rundir import RunDir, find_runs
from deeplense_batch.data.digest import verify
from deeplense_batch.data.shards import data_digest, read_splits
from deeplense_batch.inference import predict
from deeplense_batch.models import checkpoint

SECONDS = 150  # a guard against hangs; a lock of a process that was killed is broken after 60
REFUSED = (3, 4, 5)
TOUCHES = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
HEAVY = (
    *(
        "pandas",
        "submitit",
        "deeplense_batch.runs.training_run",
        "deeplense_batch.simulation.simulate",
    ),
    *(
        "deeplense_batch.data.packing.pack",
        "deeplense_batch.report.significance",
        "deeplense_batch.report.pages.compose",
    ),
    *(
        "deeplense_batch.report.pages.html",
        "deeplense_batch.report.predictions",
        "deeplense_batch.cluster.local",
    ),
)
HOW = sorted(set(DAMAGES) - {"unreadable"})  # root reads everything

Random = np.random.Generator


@dataclass(frozen=True)
class Ended:
    """What became of a child."""

    code: int | None  # None where it was killed
    said: str
    touches: int  # of the disk
    seconds: float


def child(words: list[str], log: Path, touches: Any, kill_before: int) -> None:
    """Carry out a command as a person would, and kill oneself before a touch of the disk."""
    os.setsid()

    def look(event: str, details: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(details[2], int) and details[2] & os.O_ACCMODE
        if event in TOUCHES or writes:
            touches.value += 1
            if touches.value == kill_before:
                os.killpg(0, signal.SIGKILL)

    file = log.open("w", buffering=1)
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file  # those of a test are others
    logging.getLogger("deeplense_batch").handlers.clear()
    predict._PIECE = 20
    sys.addaudithook(look)
    code = 1
    try:
        main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def execute(
    words: list[str], folder: Path, *, kill_before: int = 0, kill_after: float = SECONDS
) -> Ended:
    """Carry out a command in a child, which is killed before a touch or after some seconds."""
    log, context = folder / "log", multiprocessing.get_context("fork")
    touches, started = context.Value("i", 0, lock=False), time.monotonic()
    process = context.Process(target=child, args=(words, log, touches, kill_before))
    process.start()
    process.join(kill_after)
    if process.exitcode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()
    code = process.exitcode if process.exitcode != -signal.SIGKILL else None
    said = log.read_text(errors="replace") if log.exists() else ""
    return Ended(code, said, touches.value, time.monotonic() - started)


# What the commands make, so that two of them can be held against each other


def hashed(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()


def of_run(run: RunDir) -> dict[str, Any]:
    """The result of a run that is done: weights, losses, outputs and scores, to the last bit."""
    found: dict[str, Any] = {"state": run.status().state}
    for name in (checkpoint.CHECKPOINT, "best.pt"):
        tensors = checkpoint.load(run.path / name)["model"]
        found[name] = hashed(*(tensors[key].numpy().tobytes() for key in sorted(tensors)))
    lines = run.read_lines("history.jsonl")
    found["history"] = [(line["train"], line["valid"], line["lr"]) for line in lines]
    with np.load(run.path / "outputs.npz") as outputs:
        found["outputs"] = hashed(*(outputs[key].tobytes() for key in sorted(outputs.files)))
    found["scores"] = run.read_json("metrics.json")["test"]
    found["figures"] = sorted(path.name for path in run.figures.iterdir())
    return found


def of_shards(root: Path) -> dict[str, Any]:
    for info in read_splits(root).values():
        verify(info)
    manifest = json.loads((root / "manifest.json").read_text())
    return {"digest": data_digest(root), "keys": sorted(manifest)}


def of_report(root: Path) -> dict[str, Any]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashed(path.read_bytes()) for path in files}


def of_table(file: Path) -> dict[str, Any]:
    return pq.read_table(file).to_pydict()


@dataclass(frozen=True)
class Case:
    """A command to kill."""

    words: Callable[[Path], list[list[str]]]  # all that is carried out, in a folder; one is killed
    made: Callable[[Path], Path]  # where it writes
    result: Callable[[Path], dict[str, Any]]
    runs: bool = False  # it makes a run, beside which another lies


class Place:
    """A folder with what the commands need, made once, and the results of commands not killed."""

    def __init__(self, root: Path) -> None:
        for module in HEAVY:
            importlib.import_module(module)  # once, and not in every child
        self.root, self.work = root, root / "work"
        self.shards, self.source = root / "shards", root / "source"
        write_split(self.shards, "train", 60, seed=1, shard_size=60)
        write_split(self.shards, "val", 40, seed=2, shard_size=40)
        noise = np.random.default_rng(0)
        val = {f"val/{name}/0.npy": npy(noise.random((12, 12))) for name in "ab"}
        make_source(self.source, val)
        recipe = {
            "model": {"name": "simple_cnn"},
            "data": {"root": str(self.shards)},
            "train": {"epochs": 3, "batch_size": 20, "lr": 5e-3},
            "engine": {"checkpoint_minutes": 1e-9},  # after every step
            "resources": {"gpus": 0},
        }
        for name in ("killed", "other"):
            path = root / f"{name}.yaml"
            path.write_text(yaml.safe_dump(recipe | {"name": name}))
            self.work.mkdir(exist_ok=True)
            ended = execute(self.submit(path, root / name), self.work)
            assert ended.code == 0, ended.said
        self.run = find_runs(root / "killed")[0].path  # done
        self.cases = {
            "run": Case(self._run, self._run_made, lambda at: of_run(RunDir(at)), runs=True),
            "submit": Case(self._submit, self._run_made, lambda at: of_run(RunDir(at)), runs=True),
            "pack": Case(self._pack, lambda w: w / "out", of_shards),
            "simulate": Case(self._simulate, lambda w: w / "out", of_shards),
            "collect": Case(self._collect, lambda w: w / "report", of_report),
            "predict": Case(self._predict, lambda w: w, lambda w: of_table(w / "p.parquet")),
        }
        self._right: dict[str, tuple[list[Ended], dict[str, Any]]] = {}

    def right(self, name: str) -> tuple[list[Ended], dict[str, Any]]:
        """How a command ends that nobody kills, and its result."""
        if name not in self._right:
            self.fresh(name)
            case = self.cases[name]
            ended = [execute(words, self.work) for words in case.words(self.work)]
            assert ended[-1].code == 0, ended[-1].said
            self._right[name] = ended, case.result(case.made(self.work))
        return self._right[name]

    def fresh(self, name: str) -> None:
        """Empty the folder of the command, but for what it needs."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        if self.cases[name].runs:
            shutil.copytree(self.root / "other", self.work / "runs")
        if name == "run":  # made, and not begun
            made = self._run_made(self.work)
            made.mkdir(parents=True)
            shutil.copy(self.run / "job.yaml", made)

    def submit(self, recipe: Path, out: Path) -> list[str]:
        words = ["submit", str(recipe), "--cluster=debug", "--device=cpu", "--retry"]
        return [*words, f"--out={out}"]

    def _run_made(self, work: Path) -> Path:
        return work / "runs" / "killed" / self.run.name

    def _run(self, work: Path) -> list[list[str]]:
        return [["run", str(self._run_made(work)), "--device=cpu"]]

    def _submit(self, work: Path) -> list[list[str]]:
        return [self.submit(self.root / "killed.yaml", work / "runs")]

    def _pack(self, work: Path) -> list[list[str]]:
        return [["pack", str(self.source), str(work / "out"), "--shard_size=1"]]

    def _simulate(self, work: Path) -> list[list[str]]:
        words = ["simulate", "substructure", str(work / "out"), "--images=12", "--size=32"]
        return [[*words, "--shard_size=4", "--parts=2", f"--part={i}"] for i in range(2)]

    def _collect(self, work: Path) -> list[list[str]]:
        return [["collect", str(self.root / "killed"), f"--out={work / 'report'}"]]

    def _predict(self, work: Path) -> list[list[str]]:
        words = ["predict", str(self.run), str(self.shards), "--device=cpu"]
        return [[*words, f"--out={work / 'p.parquet'}"]]


def damaged(root: Path, random: Random) -> tuple[Path, str] | None:
    """Damage something below a folder; what, and how."""
    skipped = ("log", "runs")  # of this script
    left = sorted(p for p in root.rglob("*") if p.is_file() and p.name not in skipped)
    if not left:
        return None
    path, how = left[int(random.integers(len(left)))], str(random.choice(HOW))
    damage(path, how)
    return path, how


def fuzz(
    count: int, seed: int, folder: Path, kinds: tuple[str, ...] = ()
) -> tuple[Counter[str], list[str]]:
    """Kill `count` commands; gives how often what came of them, and what should not have."""
    place = Place(folder)
    outcomes: Counter[str] = Counter()
    wrong = []
    for i in range(count):
        random = np.random.default_rng([seed, i])
        name = str(random.choice(kinds or sorted(place.cases)))
        what, came, faults = one(place, name, random)
        outcomes[f"{name} {came}"] += 1
        wrong += [f"{i}: {what}: {fault}" for fault in faults]
    return outcomes, wrong


def one(place: Place, name: str, random: Random) -> tuple[str, str, list[str]]:
    """Kill a command, perhaps damage a file, start it again: what was done, what came, faults."""
    case, (whole, right) = place.cases[name], place.right(name)
    place.fresh(name)
    commands, work = case.words(place.work), place.work
    victim, moments = int(random.integers(len(commands))), list[dict[str, Any]]()
    for _ in range(int(random.integers(1, 3))):  # once or twice
        moment: dict[str, Any] = {"kill_after": float(random.uniform(0, whole[victim].seconds))}
        if random.random() < 0.7:
            moment = {"kill_before": int(random.integers(1, whole[victim].touches + 2))}
        moments.append(moment)
    for words in commands[:victim]:
        execute(words, work)
    for moment in moments:
        execute(commands[victim], work, **moment)
    made, faults, harm = case.made(work), list[str](), None
    done = case.runs and RunDir(made).status().state == "done"
    if random.random() < 0.4 and made.exists():
        harm = damaged(made, random)
    told = f"{name} {moments} " + (f"{harm[0].relative_to(work)} {harm[1]}" if harm else "")
    if case.runs and made.exists():
        faults += beside(place, harm)
    ended = [execute(words, work) for words in commands]
    said = "".join(one.said for one in ended)
    if harm is None:
        came, fault = undamaged(case, name, made, ended, right)
    else:
        came, fault = refused_or_right(case, made, ended, right, harm[0], done)
    faults += [fault] if fault else []
    faults += ["a traceback"] if "Traceback" in said else []
    return told, came, [f"{fault}\n{said[-2500:]}" for fault in faults]


def beside(place: Place, harm: tuple[Path, str] | None) -> list[str]:
    """What is wrong with what `status` and `collect` say of the runs."""
    faults = []
    runs, other = place.work / "runs", find_runs(place.root / "other")[0].name
    for words in (["status", str(runs)], ["collect", str(runs), f"--out={place.work / 'report'}"]):
        ended = execute(words, place.work)
        if ended.code not in (0, 5) or "Traceback" in ended.said:
            faults.append(f"{words[0]}: {ended.code} {ended.said[-800:]}")
    table = json.loads((place.work / "report" / "results.json").read_text())["rows"]
    states = {RunDir(row["run"]).name: row["state"] for row in table}
    if states.get(other) != "done":
        faults.append(f"the run beside it: {states}")
    if harm is None and "unreadable" in states.values():
        faults.append(f"unreadable, though nothing was damaged: {table}")
    return faults


def undamaged(
    case: Case, name: str, made: Path, ended: list[Ended], right: dict[str, Any]
) -> tuple[str, str]:
    """Whether what was only killed ends as if nothing had happened."""
    complete = name == "pack" and ended[-1].code == 3 and "holds shards already" in ended[-1].said
    if ended[-1].code != 0 and not complete:
        return "wrong", f"not carried out: {ended[-1].code}"
    if case.result(made) != right:
        return "wrong", f"another result: {case.result(made)}, expected {right}"
    if left := [p for p in made.rglob("*") if ".tmp" in p.name and p.exists()]:
        return "wrong", f"left {left}"
    return "same", ""


def refused_or_right(
    case: Case, made: Path, ended: list[Ended], right: dict[str, Any], harmed: Path, done: bool
) -> tuple[str, str]:
    """Whether what was damaged ends right, or in a sentence."""
    code, said = ended[-1].code, ended[-1].said
    if code in REFUSED:
        if harmed.name in said or (not case.runs and str(made) in said):
            return "refused", ""
        return "wrong", f"refused, and {harmed.name} is not named"
    if code != 0:
        return "wrong", f"{code}"
    if done:  # before the damage: there was nothing to do
        return "done", ""
    try:
        if case.result(made) == right:
            return "same", ""
    except (OSError, ValueError) as error:
        return "wrong", f"said to be done, and cannot be read: {error}"
    return "wrong", "another result"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_here:
        chosen = tuple(sys.argv[3].split(",")) if len(sys.argv) > 3 else ()
        found, bad = fuzz(int(sys.argv[1]), int(sys.argv[2]), Path(made_here), chosen)
    print(dict(sorted(found.items())), *bad, sep="\n")
    sys.exit(bool(bad))
