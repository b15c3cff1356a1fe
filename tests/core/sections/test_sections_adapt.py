"""What a recipe says of adaptation: its fields, its place in an identity, and its words."""

from __future__ import annotations

import pytest
from conftest import make_job

from deeplense_batch.core.sections.adapt import Adaptation, adapted_in_words
from deeplense_batch.core.sections.dotted import flat_fields, joined

TO = {"root": "data/varied", "slice": "train", "digest": "d" * 16}
CORAL = {"to": TO, "by": "coral", "weight": 1.0}


def identity(shards, adapt=..., name="classification"):
    options = {} if adapt is ... else {"adapt": adapt}
    return make_job(shards, task={"name": name, "options": options}).identity("d")


def test_without_adaptation_a_run_has_the_name_that_it_had(shards):
    assert identity(shards, None) == identity(shards) == make_job(shards).identity("d")


def test_all_but_the_folder_of_the_target_names_a_run(shards):
    own = identity(shards, CORAL)
    assert own == identity(shards, {"to": {**TO, "root": "/elsewhere"}, "by": "coral"})
    assert own != identity(shards)
    others = (
        {**CORAL, "by": "mmd"},
        {**CORAL, "weight": 2.0},
        {**CORAL, "to": {**TO, "slice": "val"}},
        {**CORAL, "to": {**TO, "digest": "e" * 16}},
    )
    assert len({own, *(identity(shards, other) for other in others)}) == 5


def test_other_tasks_have_no_such_option(shards):
    job = make_job(shards, task={"name": "regression", "options": {"adapt": CORAL}})
    assert job.task.adaptation is None  # its task refuses the option


def test_defaults_are_those_of_the_page():
    plain = Adaptation.model_validate({"to": {"root": "a"}, "by": "dann"})
    assert (plain.to.slice, plain.weight) == ("train", 1.0)


@pytest.mark.parametrize(
    ("adapt", "words"),
    [
        (CORAL, "varied by coral"),
        ({"to": {"root": "/x/y"}, "by": "mmd"}, "y by mmd"),
        ({"to": {**TO, "slice": "val[:10%]"}, "by": "dann", "weight": 0.1},
         "varied val[:10%] by dann, weight 0.1"),
    ],
)  # fmt: skip
def test_it_is_said_in_a_few_words(adapt, words):
    assert adapted_in_words(adapt) == words


def test_flat_fields_have_it_as_one():
    job = {"seed": 0, "task": {"options": {"focal": 1.0, "adapt": CORAL}}}
    flat = {"seed": 0, "task.options.focal": 1.0, "task.options.adapt": CORAL}
    assert joined(dict(flat_fields(job))) == flat == joined(flat)
    assert joined({"task.options.adapt": None}) == {"task.options.adapt": None}
