"""What a run was trained on, as a reader names it and as programs tell it from other data."""

from __future__ import annotations

import pytest

from deeplense_batch.report.trained_on import (
    name_starts,
    trained_on,
    trained_together,
    training_names,
)

A = {"root": "/data/a", "digest": "a" * 16}
B = {"root": "/data/b", "train": "train[:10%]", "weight": 0.2, "channels": ["g", 1]}


def test_one_set_is_named_by_its_folder_and_slice():
    data = {"root": "/data/a", "train": "train[:10%]", "roots": []}
    named = trained_on(data, "a" * 16)
    assert named == {"name": "a train[:10%]", "digest": f"{'a' * 16}:train[:10%]", "sets": 0}
    assert trained_on({"root": "/data/a"}, None) == {"name": "a", "digest": None, "sets": 0}


def test_several_sets_are_named_with_what_is_set_of_each():
    mixture = trained_on({"root": "/data/a", "roots": [A, B | {"digest": "b" * 16}]}, "a" * 16)
    assert mixture["name"] == "a + 0.2 b train[:10%] (g 1)"
    assert mixture["digest"] == f"{'a' * 16}:train + {'b' * 16}:train[:10%]:0.2:['g', 1]"
    assert trained_on({"root": "/data/a", "roots": [A, B]}, "a" * 16)["digest"] is None


def test_a_curriculum_is_named_before_what_comes_last():
    first = [A | {"epochs": 6}, B | {"epochs": 4, "digest": "b" * 16, "weight": None}]
    named = trained_on({"root": "/data/c", "curriculum": first}, "c" * 16)
    assert named["name"] == "a (6 epochs), then b train[:10%] (g 1) (4 epochs), then c"
    assert named["sets"] == 2
    digests = (
        f"{'a' * 16}:train x 6",
        f"{'b' * 16}:train[:10%]:['g', 1] x 4",
        f"{'c' * 16}:train",
    )
    assert named["digest"] == " > ".join(digests)
    assert trained_on({"root": "/data/c", "curriculum": first}, None)["digest"] is None
    lacking = [A | {"epochs": 6}, B | {"epochs": 4}]
    assert trained_on({"root": "/data/c", "curriculum": lacking}, "c" * 16)["digest"] is None
    mixed = trained_on({"root": "/data/c", "curriculum": first[:1], "roots": [A]}, "c" * 16)
    assert (mixed["name"], mixed["sets"]) == ("a (6 epochs), then a", 2)
    one = trained_on({"root": "/data/c", "curriculum": [A | {"epochs": 1}]}, "c" * 16)
    assert one["name"] == "a (1 epoch), then c"


def test_an_adapted_training_is_named_by_what_it_was_adapted_to_and_knows_its_control():
    adapt = {"to": {"root": "/data/b", "slice": "train", "digest": "b" * 16}, "by": "mmd"}
    control = trained_on({"root": "/data/a"}, "a" * 16)
    found = trained_on({"root": "/data/a"}, "a" * 16, adapt)
    assert found == {
        "name": "a adapted to b by mmd", "adapted": "b by mmd", "sets": 1,
        "digest": f"{control['digest']} adapted {'b' * 16}:train:mmd:1.0",
        "control": control["digest"],
    }  # fmt: skip
    weighed = trained_on({"root": "/data/a"}, "a" * 16, adapt | {"weight": 2.0})
    assert weighed["name"].endswith("mmd, weight 2") and weighed["digest"] != found["digest"]
    assert trained_on({"root": "/data/a"}, None, adapt)["digest"] is None
    assert training_names(rows(control, found)) == ["a", "a adapted to b by mmd"]


def rows(*trainings):
    return [{"training": training} for training in trainings]


def test_names_tell_a_mixture_from_what_else_was_trained():
    plain = trained_on({"root": "/data/a"}, "a" * 16)
    mixture = trained_on({"root": "/data/a", "roots": [A, B | {"digest": "b" * 16}]}, "a" * 16)
    assert training_names(rows(plain, mixture, mixture, None)) == [
        "a", mixture["name"], mixture["name"], None,
    ]  # fmt: skip
    assert training_names(rows(mixture, mixture)) == [None, None]  # nothing to be told apart


def test_runs_on_one_set_each_have_no_such_name():
    trainings = [trained_on({"root": f"/data/{c}"}, c * 16) for c in "ab"]
    assert training_names(rows(*trainings)) == [None, None]


def test_folders_of_one_name_and_other_content_have_two_names():
    mixtures = [
        trained_on({"root": "/a", "roots": [A | {"digest": c * 16}]}, "a" * 16) for c in "ab"
    ]
    first, second = training_names(rows(*mixtures))
    assert first != second and first.startswith("a (") and second.startswith("a (")


@pytest.mark.parametrize("channels", ["mean", ["mean"]])
def test_the_mean_of_the_bands_is_named(channels):
    data = {"root": "/data/a", "roots": [A | {"channels": channels}]}
    assert trained_on(data, None)["name"] == "a (mean)"


def test_members_of_one_training_are_described_by_it():
    plain = trained_on({"root": "/data/a"}, "a" * 16)
    assert trained_together([plain, dict(plain)]) == plain


def test_members_of_several_trainings_are_described_by_all():
    """Whatever their order; and two of one and one of another are not one of each."""
    plain = trained_on({"root": "/data/a"}, "a" * 16)
    both = [A, {"root": "/data/b", "digest": "b" * 16}]
    mixture = trained_on({"root": "/data/a", "roots": both}, "a" * 16)
    together = trained_together([mixture, plain])
    assert together == trained_together([plain, mixture]) == {
        "name": "a and a + b",
        "digest": f"{'a' * 16}:train & {'a' * 16}:train + {'b' * 16}:train",
        "sets": 3,
    }  # fmt: skip
    more = trained_together([plain, plain, mixture])
    assert more["name"] == together["name"] and more["digest"] != together["digest"]
    unknown = trained_on({"root": "/data/b"}, None)
    assert trained_together([plain, unknown]) == {"name": "a and b", "digest": None, "sets": 2}


def started(seed, init):
    return {"seed": seed, "recipe": {"train.init": init}}


def test_runs_that_start_from_the_run_of_their_own_seed_are_one_setting():
    rows = [started(s, f"/runs/masked/vit-s{s}-{s:010x}") for s in (0, 1)]
    rows += [started(2, None), started(3, "/runs/masked/other-s7-0123456789"), started(4, "w.pt")]
    name_starts(rows)
    assert [row["recipe"]["train.init"] for row in rows] == [
        *("masked/vit", "masked/vit"),
        *(None, "/runs/masked/other-s7-0123456789", "w.pt"),
    ]


def test_two_runs_that_one_seed_starts_from_stay_apart():
    rows = [started(0, f"/runs/masked/vit-s0-{run:010x}") for run in (0, 1)]
    name_starts(rows)
    assert rows[0]["recipe"] != rows[1]["recipe"]
