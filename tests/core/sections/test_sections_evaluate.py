"""What a recipe says of an evaluation, and what an ensemble is called."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from deeplense_batch.core.sections.evaluate import EvaluateSection, ensemble_label, model_in


def test_one_folder_or_several():
    assert EvaluateSection(run="runs/a").runs == ("runs/a",)
    several = EvaluateSection.model_validate({"run": ["runs/a", "runs/b"], "ensemble": True})
    assert several.runs == ("runs/a", "runs/b")
    assert EvaluateSection.model_validate(several.model_dump(mode="json")) == several


@pytest.mark.parametrize("run", [3, [], ["a", 3], "", [""], None])
def test_what_names_no_folder_is_refused(run):
    with pytest.raises(ValidationError, match="expected a folder, or a list of folders"):
        EvaluateSection.model_validate({"run": run})


def test_an_ensemble_is_called_by_its_models():
    names = ["resnet18-s0-0123456789", "resnet18-s12-0123456789", "densenet121-s0-0123456789"]
    assert ensemble_label(map(model_in, names)) == "resnet18 x2 + densenet121 x1"
    assert ensemble_label(["resnet18"] * 3) == "resnet18 x3"
    many = ensemble_label(f"network_{i}" for i in range(20))
    assert many.startswith("network_0 x1 + network_1 x1") and many.endswith("... x20")


def test_a_run_that_was_renamed_is_its_own_model():
    assert model_in("my_best") == "my_best"
