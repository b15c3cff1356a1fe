"""The card of an exported network: what it is, how good, how its images must be prepared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import yaml

from deeplense_batch.core.scoring.calibration import log_odds_of
from deeplense_batch.core.sections.dotted import flat_fields
from deeplense_batch.core.sections.simulated import simulated_in_words
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.inference.trained import Trained
from deeplense_batch.tasks.detection import Detection
from deeplense_batch.tasks.generation import Generation
from deeplense_batch.tasks.masked import Masked
from deeplense_batch.tasks.posteriors.flow import Flow
from deeplense_batch.tasks.posteriors.gaussian import Gaussian
from deeplense_batch.tasks.regression import Regression
from deeplense_batch.tasks.restoration import Restoration

__all__ = ["card"]

_UNIT = {  # without a softening
    "linear": "as they are",
    "asinh": "asinh(x / 0.05) / asinh(1 / 0.05)",
    "log": "log(1 + max(x, 0) / 0.05) / log(1 + 1 / 0.05)",
    "sqrt": "sign(x) sqrt(|x|)",
}
_SOFTENED = {
    "asinh": "asinh(x / s)",
    "log": "sign(x) log(1 + |x| / s)",
    "sqrt": "sign(x) (sqrt(1 + |x| / s) - 1)",
}
_DENOISED = {"epsilon": "the noise", "x0": "the image", "v": "alpha noise - sigma image"}


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
    return (
        f"A network of {millions:.3f} million parameters, trained by the run "
        f"`{metrics['job']}/{metrics['run']}` (identity `{metrics['identity']}`, "
        f"seed {metrics['seed']}); weights of epoch {trained.epoch}, the best on the validation "
        f"slice, digest `{trained.weights}`. {_outputs(trained)}"
    )


def _outputs(trained: Trained) -> str:
    """What the numbers are that the network gives."""
    task = trained.task
    classes = ", ".join(f"{i} = {name}" for i, name in enumerate(trained.classes))
    if trained.classifies:
        count = task.spec.num_outputs
        return f"Its outputs are {count} logits: {classes}. Their softmax are scores."
    if isinstance(task, Regression):
        return _of_numbers(task)
    if isinstance(task, Generation):
        told = {
            "class": f"a class number ({classes}; -1 is none)",
            "theta_e": "the natural logarithm of the Einstein radius in arcsec (NaN is none)",
        }
        beside = "".join(f", with {told[name]}" for name in task.conditions)
        return (
            f"It takes noise from images: given alpha image + sigma noise and t{beside}, it "
            f"gives {_DENOISED[task.process.prediction]}, where alpha = cos(t pi / 2) and "
            "sigma = sin(t pi / 2), t from 0 to 1. `sample` draws new images by it."
        )
    if isinstance(task, Masked):
        return (
            f"It restores square patches of images, of which {task.mask_ratio:.0%} were hidden. "
            "What it is for is its encoder, a Vision Transformer of timm, whose weights are those "
            "that begin with `encoder.`; `train.init` starts a network from them."
        )
    if isinstance(task, Restoration):
        return (
            f"It gives an image of {trained.ratio} x {trained.ratio} pixels for one of its input. "
            "`predict` restores images by it."
        )
    return f"It gives {task.spec.num_outputs} numbers for the task {trained.job.task.name}."


def _of_numbers(task: Regression) -> str:
    """What the outputs of a regression are."""
    state = task.state_dict()
    if not task.spec.quantities:
        return (
            f"Its one output, times {state['sd']:.9g} and plus {state['mean']:.9g}, is "
            f"{task.name}."
        )
    scaled = ", ".join(
        f"{one.label} (times {sd:.9g} plus {mean:.9g})"
        for one, mean, sd in zip(task.quantities, state["mean"], state["sd"], strict=True)
    )
    size = len(task.quantities)
    if isinstance(task.posterior, Gaussian):
        return (
            f"Its first {counted(size, 'output')}, scaled, are the means of {scaled}; the others "
            f"are the lower triangle L of {size} x {size}, by rows, of the covariance L L^T "
            "before the scaling, where a diagonal entry v is softplus(v + log(e - 1)) + 0.0001."
        )
    if isinstance(task.posterior, Flow):
        return (
            f"Its weights are those of the network, `network...`, which gives "
            f"{task.spec.num_outputs} features, and of a flow of zuko, `flow...`, which carries "
            f"{counted(size, 'normal random number')} by these features to {scaled}; `predict "
            "--samples` draws from it."
        )
    return f"Its {counted(size, 'output')}, scaled, are {scaled}."


def _preparation(trained: Trained) -> str:
    """The way from an image as it was packed to what the network takes."""
    transform, (channels, height, width) = trained.transform, trained.shape
    start = f"Start from values as in the data: ({channels}, {height}, {width}) float32"
    steps = [f"{start}{trained.about_channels}."]
    if (choice := trained.choice) is not None:
        places = ", ".join(map(str, choice.places))
        steps.insert(
            0,
            f"Of the {trained.stored_channels} channels in the data, numbered from 0, take "
            + (f"the mean of {places}." if choice.averaged else f"{places}, in this order."),
        )
    if transform.crop:
        steps.append(
            f"Keep the central {transform.crop} x {transform.crop} pixels; of an odd margin, the "
            "smaller half is cut off above and left."
        )
    steps.append(f"Stretch: {_stretching(transform)} (`stretch: {transform.stretch}`).")
    steps += [_clipping(transform)] if transform.clip else []
    steps.append(_normalising(transform))
    if transform.size:
        steps.append(
            f"Resize to {transform.size} x {transform.size} pixels: bilinear, with antialiasing "
            "where it shrinks (`torch.nn.functional.interpolate`)."
        )
    steps.append(f"The network takes (batch, {', '.join(map(str, trained.given_shape))}) float32.")
    if isinstance(trained.task, Restoration):
        steps += _restoring(trained, trained.task)
    return "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1))


def _restoring(trained: Trained, task: Restoration) -> Iterator[str]:
    """What becomes of what a restoring network gives."""
    yield f"It gives (batch, {', '.join(map(str, trained.input_shape))}) float32."
    if task.residual:
        gain, offset = (_digits(values) for values in (task.fitted.gain, task.fitted.offset))
        yield (
            f"Add {gain} x b + {offset} by channel, where b is what it takes, interpolated "
            "(`torch.nn.functional.interpolate`, bicubic, with `antialias=True`)."
        )
    yield "Multiply by sd and add mean, of the normalisation above."


def _stretching(transform: Transform) -> str:
    """How values are stretched."""
    if transform.softening is None:
        return _UNIT[transform.stretch]
    return (
        f"{_SOFTENED[transform.stretch]}, where s is {_digits(transform.scales)} by channel, "
        f"{transform.softening:g} times the sd of the sky, {_digits(transform.sky_sd)}"
    )


def _clipping(transform: Transform) -> str:
    """Between which values stretched ones are kept."""
    assert transform.clip is not None
    low, high = (f"{percentile:g}" for percentile in transform.clip)
    if transform.per == "image":
        return (
            f"Clip each image to its own percentiles {low} and {high}, over all its pixels and "
            f'channels together (`numpy.percentile(..., method="inverted_cdf")`).'
        )
    least, most = (_digits(ends) for ends in zip(*transform.limits, strict=True))
    return (
        f"Clip to {least} and {most} by channel, the percentiles {low} and {high} of "
        + ("all channels" if transform.per == "set" else "each channel")
        + " of the training images."
    )


def _normalising(transform: Transform) -> str:
    """By what values are centred and scaled."""
    if transform.per == "image":
        return (
            "Subtract of each image its own mean and divide by its own sd, over all its pixels "
            "and channels together."
        )
    if transform.per == "set":
        (mean, *_), (sd, *_) = (map("{:.9g}".format, v) for v in (transform.mean, transform.sd))
        return f"Subtract {mean} and divide by {sd}, the mean and sd of all channels together."
    return (
        f"Subtract the mean of each channel, {_digits(transform.mean)}, and divide by its sd, "
        f"{_digits(transform.sd)}."
    )


def _digits(values: Iterable[float]) -> list[float]:
    """Numbers to as many digits as float32 has."""
    return [float(f"{value:.9g}") for value in values]


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
        f"({_trained_on(data)}){_adapted_to(trained)}, validated on `{data['valid']}`, "
        f"tested on `{data['test']}`. Pixels are {width}."
    )


def _adapted_to(trained: Trained) -> str:
    """The images that it was adapted to, if it was."""
    if (adaptation := trained.job.task.adaptation) is None:
        return ""
    to, by = adaptation.to, adaptation.by
    name = PurePath(to.root).name
    return f", adapted by {by} to `{to.slice}` of {name}, digest `{to.digest}`, without labels"


def _trained_on(data: Mapping[str, Any]) -> str:
    """The slice that was trained on, or that of each of several sets, and what came before."""
    before = "".join(
        f"; before that {each['epochs']} epochs on {each['samples']} of `{each['train']}` of "
        f"{each['name']}, digest `{each['digest']}`"
        for each in data.get("curriculum", ())
    )
    return f"{_last_trained_on(data)}{before}"


def _last_trained_on(data: Mapping[str, Any]) -> str:
    if new := data.get("simulate"):
        return f"{simulated_in_words(new)}, normalised as `{data['train']}`"
    if "roots" not in data:
        return f"`{data['train']}`"
    return "; ".join(
        f"{each['samples']} are `{each['train']}` of {each['name']}, digest `{each['digest']}`"
        + ("" if each["weight"] is None else f", drawn with weight {each['weight']:g}")
        for each in data["roots"]
    )


def _recipe(trained: Trained) -> str:
    """The job without what does not change its result."""
    kept = trained.job.model_dump(mode="json", exclude={"engine", "resources", "judge"})
    for section, name in (("data", "root"), ("train", "init")):  # no user's path
        if path := kept[section][name]:
            kept[section][name] = PurePath(path).name
    for each in (*kept["data"]["roots"], *kept["data"]["curriculum"]):
        each["root"] = PurePath(each["root"]).name
    if trained.job.task.adaptation is not None:
        target = kept["task"]["options"]["adapt"]["to"]
        target["root"] = PurePath(target["root"]).name
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _use(trained: Trained) -> str:
    task, more = trained.task, ""
    if trained.classifies:
        purpose = f"to sort images like those it was trained on into {', '.join(trained.classes)}"
        more = " Its scores rank candidates for people to look at; they are no discovery by "
        more += "themselves."
    elif isinstance(task, Generation):
        purpose = "to draw images like those it was trained on"
        more = " What it draws are no observations, and follow no law of lensing by construction."
    elif isinstance(task, Masked):
        purpose = "to start networks that learn from images like those it was trained on"
        more = " What it restores is likely, and was not observed."
    else:
        learnt = task.spec.target_name or trained.job.task.name
        purpose = f"to estimate {learnt} from images like those it was trained on"
    return f"Research on strong gravitational lenses: {purpose}, and to compare methods.{more}"


def _limits(trained: Trained) -> str:
    untested = (
        "Other instruments, pixel scales, noise, bands or laws of simulation than those of its "
        "data are untested, and scores there may be far worse."
    )
    sample = "Scores above have the error of a finite sample and of one seed."
    if isinstance(trained.task, Generation):
        own = "What is rare in its data may never be drawn, and images of them may be copied."
        return f"{own} {sample}"
    if isinstance(trained.task, Masked):
        return f"{untested} {sample}"
    if isinstance(trained.task, Restoration):
        own = "It gives an image for every image; what its input does not show it may invent."
        return f"{own} {untested} {sample}"
    if not trained.classifies:
        own = (
            "It gives a number without an error for every image, whatever it shows."
            if trained.task.spec.averages
            else "It gives a posterior for every image, whatever it shows; its error bars hold "
            "for images like those of its data alone."
        )
        return f"{own} {untested} {sample}"
    return (
        f"It knows {len(trained.classes)} classes and calls every image one of them, whatever it "
        f"shows. {untested} In other proportions of classes than in its data its probabilities "
        f"do not hold; nor are they calibrated here{_honest(trained)}. {sample}"
    )


def _honest(trained: Trained) -> str:
    """How probabilities are calibrated: the end of a sentence."""
    task = trained.task
    if isinstance(task, Detection) and task.slope_and_offset and task.curve:
        (slope, offset), share = task.slope_and_offset, task.curve.share
        text = (
            f"; the log odds of {task.spec.target_name} (its logit less the other one) times "
            f"{slope:.6g} plus {offset:.6g} are, where a share of {share:.4g} are, as in its "
            "validation slice. For a share q add log(q / (1 - q)) less "
            f"{log_odds_of(share):.6g}"
        )
        if task.threshold is None:
            return text
        return text + (
            f". For a purity of {task.purity:g} where {task.prevalence:g} of all are "
            f"{task.spec.target_name}, those of a score of {task.threshold:.9g} or more are "
            "candidates; `predict` takes any other purity and prevalence"
        )
    if temperature := trained.metrics["test"]["scores"].get("temperature"):
        return f"; divide the logits by {temperature:.4g}, as `predict` does, to calibrate them"
    return ""


def _versions(metrics: Mapping[str, Any]) -> str:
    versions = dict(flat_fields(dict(metrics["versions"])))
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    commit = f"commit `{metrics['commit']}`" if metrics.get("commit") else "commit unknown"
    return f"{listed}; {commit}; on {json.dumps(metrics['device']['name'])[1:-1]}."
