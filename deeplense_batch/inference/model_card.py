"""The card of an exported network: what it is, how good, how its images must be prepared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from deeplense_batch.core.recipe import flat_fields
from deeplense_batch.inference.trained import Trained

__all__ = ["card"]

_HOW = {
    "linear": "as they are",
    "asinh": "asinh(x / 0.05) / asinh(1 / 0.05)",
    "log": "log(1 + max(x, 0) / 0.05) / log(1 + 1 / 0.05)",
}


def card(trained: Trained, files: Mapping[str, str]) -> str:
    """Write the card, Markdown.

    Arguments:
        trained: The run.
        files: What is beside the card: a line for each, by name.
    """
    job, metrics = trained.job, trained.metrics
    sections = {
        f"{job.model.name} for {job.task.name}": _about(trained),
        "Files": "\n".join(f"- `{name}`: {text}" for name, text in files.items()),
        "Images must be prepared so": _preparation(trained),
        "Scores": _scores(metrics),
        "Data": _data(trained),
        "Recipe": f"```yaml\n{_recipe(trained)}```",
        "Intended use": _use(trained),
        "Limits": _limits(trained),
        "Made with": _versions(metrics),
    }
    (title, first), *others = sections.items()
    return "\n\n".join([f"# {title}", first, *(f"## {k}\n\n{v}" for k, v in others)]) + "\n"


def _about(trained: Trained) -> str:
    metrics = trained.metrics
    millions = metrics["cost"]["parameters"] / 1e6
    classes = ", ".join(f"{i} = {name}" for i, name in enumerate(trained.classes))
    count = trained.task.spec.num_outputs
    outputs = f"Its outputs are {count} logits: {classes}. Their softmax are scores."
    if count != len(trained.classes):
        outputs = f"It gives {count} numbers for the task {trained.job.task.name}."
    return (
        f"A network of {millions:.3f} million parameters, trained by the run "
        f"`{metrics['job']}/{metrics['run']}` (identity `{metrics['identity']}`, "
        f"seed {metrics['seed']}); weights of epoch {trained.epoch}, the best on the validation "
        f"slice, digest `{trained.weights}`. " + outputs
    )


def _preparation(trained: Trained) -> str:
    """The way from an image as it was packed to what the network takes."""
    transform, (channels, height, width) = trained.transform, trained.shape
    steps = [f"Start from values as in the data: ({channels}, {height}, {width}) float32."]
    if transform.crop:
        steps.append(
            f"Keep the central {transform.crop} x {transform.crop} pixels; of an odd margin, the "
            "smaller half is cut off above and left."
        )
    steps.append(f"Stretch: {_HOW[transform.stretch]} (`stretch: {transform.stretch}`).")
    means, sds = ([float(f"{v:.9g}") for v in values] for values in (transform.mean, transform.sd))
    steps.append(f"Subtract the mean of each channel, {means}, and divide by its sd, {sds}.")
    if transform.size:
        steps.append(
            f"Resize to {transform.size} x {transform.size} pixels: bilinear, with antialiasing "
            "where it shrinks (`torch.nn.functional.interpolate`)."
        )
    steps.append(f"The network takes (batch, {', '.join(map(str, trained.input_shape))}) float32.")
    return "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1))


def _scores(metrics: Mapping[str, Any]) -> str:
    test, samples = metrics["test"], metrics["data"]["samples"]
    validated = metrics["valid"]["scores"]
    lines = [
        f"On the test slice, {samples['test']} images that were used for nothing else"
        + (f" ({_counts(test['class_counts'])})" if test.get("class_counts") else "")
        + (", averaged over the 8 symmetries of the square" if test.get("tta") else "")
        + "; and on the validation slice, "
        f"{samples['valid']} images, by which the epoch was chosen:",
        "",
        "| score | test | validation |",
        "|---|---|---|",
    ]
    for name, value in test["scores"].items():
        lines.append(f"| {name} | {_number(value)} | {_number(validated.get(name))} |")
    return "\n".join([*lines, *(f"\nNote: {note}." for note in test["notes"])])


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _data(trained: Trained) -> str:
    data, scale = trained.metrics["data"], trained.pixel_scale
    width = f"{scale:g} arcsec" if scale == scale else "of unknown width"  # NaN is not itself
    return (
        f"Digest `{data['digest']}`; trained on {data['samples']['train']} images "
        f"(`{data['train']}`), validated on `{data['valid']}`, tested on `{data['test']}`. "
        f"Pixels are {width}."
    )


def _recipe(trained: Trained) -> str:
    """The job without what does not change its result."""
    kept = trained.job.model_dump(mode="json", exclude={"engine", "resources"})
    kept["data"]["root"] = trained.job.data.root.rstrip("/").rpartition("/")[2]  # no user's path
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _use(trained: Trained) -> str:
    return (
        "Research on strong gravitational lenses: to sort images like those it was trained on "
        f"into {', '.join(trained.classes)}, and to compare methods. Its scores rank candidates "
        "for people to look at; they are no discovery by themselves."
    )


def _limits(trained: Trained) -> str:
    classes, scores = len(trained.classes), trained.metrics["test"]["scores"]
    honest = ""
    if temperature := scores.get("temperature"):
        honest = f"; divide the logits by {temperature:.4g}, as `predict` does, to calibrate them"
    return (
        f"It knows {classes} classes and calls every image one of them, whatever it shows. Other "
        "instruments, pixel scales, noise, bands or laws of simulation than those of its data are "
        "untested, and scores there may be far worse. In other proportions of classes than in its "
        f"data its probabilities do not hold; nor are they calibrated here{honest}. "
        "Scores above have the error of a finite sample and of one seed."
    )


def _versions(metrics: Mapping[str, Any]) -> str:
    versions = dict(flat_fields(dict(metrics["versions"])))
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    commit = f"commit `{metrics['commit']}`" if metrics.get("commit") else "commit unknown"
    return f"{listed}; {commit}; on {json.dumps(metrics['device']['name'])[1:-1]}."
