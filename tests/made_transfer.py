"""Run directories of networks that were trained on several sets and tested on several, made up."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import yaml
from made_runs import make_run
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.job import Evaluation, Job
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.core.sections.dotted import flat_fields

CLASSES = ("no", "sphere", "vort")
SLICE = "val[50%:]"


def digest_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def targets_of(images: int) -> np.ndarray:
    return np.arange(images) % 3


def answers(data: str, images: int, skill: float, seed: int) -> np.ndarray:
    """Logits, (images, 3): what is difficult in the images, and noise of the network's own."""
    shared = np.random.default_rng(int(digest_of(data), 16) % 2**32).normal(size=(images, 3))
    own = np.random.default_rng([seed, images]).normal(size=(images, 3))
    return skill * np.eye(3)[targets_of(images)] + shared + 0.3 * own


class Networks:
    """One job's networks, below a folder."""

    def __init__(self, root: Path, images: dict[str, int], model: str = "resnet18") -> None:
        self.root, self.images, self.model = root, images, model

    def train(
        self, data: str, seed: int, skill: float, train: str = "train", adapt: str = ""
    ) -> RunDir:
        """A training on one set, or on those that a plus joins; tested on the first.

        It is adapted as a text says, ``b by coral``, or says itself that it is not: ``null``.
        """
        first, *more = data.split(" + ")
        run = make_run(self.root, self.model, seed=seed, place=f"/data/{first}",
                       digest=digest_of(first), valid=0.9)  # fmt: skip
        job = yaml.safe_load((run.path / "job.yaml").read_text())
        job["data"]["train"] = train
        if adapt:
            name, _, by = adapt.partition(" by ")
            to = {"root": f"/data/{name}", "slice": "train", "digest": digest_of(name)}
            options = {"to": to, "by": by, "weight": 1.0} if by else None
            job["task"] = {"name": "classification", "options": {"adapt": options}}
        if more:
            job["data"]["roots"] = [
                {"root": f"/data/{name}", "digest": digest_of(name)} for name in (first, *more)
            ]
        named = f"{self.model} {data} {seed} {train}" + adapt
        identity = hashlib.sha256(named.encode()).hexdigest()[:10]
        place = run.path.with_name(f"{self.model}-s{seed}-{identity}")
        run.path.rename(place)
        run = RunDir(place)
        (run.path / "job.yaml").write_text(yaml.safe_dump(job))
        self._answer(run, first, seed, skill, {"identity": identity, "job": "demo"})
        return run

    def evaluate(self, network: RunDir, data: str, skill: float, slice_: str = SLICE) -> RunDir:
        """That network on another set."""
        job = yaml.safe_load((network.path / "job.yaml").read_text())
        before = network.read_json("metrics.json")
        run = make_run(self.root, self.model, seed=job["seed"], job="evaluated_demo", test=slice_,
                       place=f"/data/{data}", digest=digest_of(data))  # fmt: skip
        name = f"{network.path.name}-{digest_of(data + slice_)[:10]}"
        run.path.rename(run.path.with_name(name))
        run = RunDir(run.path.with_name(name))
        section = {"run": str(network.path), "data": {"root": f"/data/{data}", "slice": slice_}}
        content = Evaluation.model_validate({"name": "evaluated_demo", "evaluate": section})
        (run.path / "job.yaml").write_text(yaml.safe_dump(content.model_dump(mode="json")))
        evaluated = {
            "run": str(network.path), "identity": before["identity"], "task": "classification",
            "data_digest": before["data"]["digest"],
            "recipe": dict(flat_fields(Job.model_validate(job).model_dump(mode="json"))),
        }  # fmt: skip
        more = {"evaluated": evaluated, "identity": digest_of(name)[:10], "seed": job["seed"]}
        self._answer(run, data, job["seed"], skill, more | {"model": self.model})
        return run

    def _answer(self, run: RunDir, data: str, seed: int, skill: float, more: dict) -> None:
        """Write what the network answers, and the scores of that."""
        images = self.images[data]
        targets, logits = targets_of(images), answers(data, images, skill, seed)
        np.savez(run.path / "outputs.npz", classes=CLASSES, logits=logits, targets=targets,
                 ids=[f"{data}/{i}" for i in range(images)])  # fmt: skip
        p = softmax(logits)
        aucs = {f"auc_{n}": float(roc_auc_score(targets == k, p[:, k]))
                for k, n in enumerate(CLASSES)}  # fmt: skip
        metrics = run.read_json("metrics.json") | more
        metrics["data"]["samples"]["test"] = images
        metrics["data"] |= {} if "evaluated" in more else {"valid": "val[:50%]"}
        counts = np.bincount(targets).tolist()
        metrics["test"]["class_counts"] = dict(zip(CLASSES, counts, strict=True))
        metrics["test"]["scores"] |= {"auc": float(np.mean(list(aucs.values()))), **aucs}
        metrics["test"]["scores"]["accuracy"] = float((p.argmax(1) == targets).mean())
        metrics["test"]["scores"] |= {"ece_calibrated": 0.02, "ece_calibrated_floor": 0.03}
        run.write_json("metrics.json", metrics)


def three_by_three(root: Path, seeds: int = 2) -> Networks:
    """Trained on a, on b and on both; tested on a, on b and on 30 images of real."""
    networks = Networks(root, {"a": 600, "b": 450, "real": 30})
    skills = {"a": (2.2, 0.9, 0.5), "b": (1.2, 2.0, 0.6), "a + b": (2.15, 1.9, 0.9)}
    for training, skill in skills.items():
        own = "b" if training == "b" else "a"
        for seed in range(seeds):
            by_test = dict(zip(("a", "b", "real"), skill, strict=True))
            run = networks.train(training, seed, by_test[own])
            for test in ("a", "b", "real"):
                if test != own:
                    networks.evaluate(run, test, by_test[test])
    return networks
