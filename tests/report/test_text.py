"""What a comparison says in words: each sentence from the rows that it is about."""

from __future__ import annotations

from report_content import row

from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.text import best_model, heading, sentences


def runs_of(label, *, inferred=None, count=1, **values):
    """A model of so many runs, each of these values."""
    known = {
        "data_digest": "1a2b", "test": "val", "test_samples": 600, "commit": "abc",
        "auc": 0.8, "valid_score": 0.9, "model": label, "notes": [],
    }  # fmt: skip
    return ModelRuns(label, [row(n, **known | values) for n in range(count)], inferred or {})


def test_a_comparison_is_named_by_its_data_and_by_a_task_that_is_not_the_usual_one():
    assert heading([runs_of("a")]) == "Data 1a2b, test slice val"
    regression = runs_of("a", task="regression", learns="log10 mass")
    assert heading([regression]) == "Data 1a2b, test slice val, regression of log10 mass"


def test_the_best_is_told_with_what_picked_it():
    interval = {"auc_low": 0.75, "auc_high": 0.85}
    assert best_model([runs_of("a", inferred=interval)]) == (
        "Best by validation: a, validation AUC 0.9000, test AUC 0.8000 [0.7500, 0.8500] on 600 "
        "samples"
    )
    untested = best_model([runs_of("a", auc=None)])
    assert untested.endswith("validation AUC 0.9000, test AUC - on 600 samples")
    unvalidated = best_model([runs_of("a", valid_score=None)])
    assert "too optimistic, since no run has a validation score: a, AUC 0.8000 on" in unvalidated
    assert best_model([runs_of("a", valid_score=None, auc=None)]).startswith("No model has")


def compared(label, difference, *, resolved, count=2, **more):
    """A model, and how it compares with the best."""
    row = {"difference": difference, "difference_low": difference - 0.02,
           "difference_high": difference + 0.02, "p_value": 0.01 if resolved else 0.4,
           "resolved": resolved, "visible": 0.03, "sample_sd": 0.005}  # fmt: skip
    return runs_of(label, inferred=row | more, count=count)


def test_differences_are_told_with_interval_and_p_and_named_up_to_twelve():
    seeds = {"seed_sd": 0.01, "seeds_needed": 9}
    near = compared("near", -0.004, resolved=False, **seeds)
    far, above = compared("far", -0.1, resolved=True, **seeds), compared("up", 0.05, resolved=True)
    said = sentences([runs_of("best", count=2), far, near, above])[1:5]
    assert said == [
        "AUC lower than that of the best: far by 0.1000 [0.080, 0.120], p 0.010.",
        "AUC higher than that of the best: up by 0.0500 [0.030, 0.070], p 0.010.",
        "Not resolved: near, −0.0040 [−0.0240, +0.0160], p 0.400.",  # noqa: RUF001
        "With 2 seeds each a difference below 0.03 could not be seen; to resolve one as large as "
        "that found takes so many seeds each: 9 (near).",
    ]
    many = [compared(f"m{i}", -0.1, resolved=True) for i in range(14)]
    last = "m11 by 0.1000 [0.080, 0.120], p 0.010; and 2 more."
    assert sentences([runs_of("best"), *many])[1].endswith(last)
    assert sentences([runs_of("best")])[1].startswith("Data:")  # nothing was tested


def test_what_the_intervals_cover_is_told():
    seeds = {"seed_sd": 0.01, "seeds_needed": None}
    models = [runs_of("best", count=3), compared("a", -0.004, resolved=False, count=2, **seeds)]
    seen, covered = sentences(models)[2:4]
    assert seen.endswith("takes so many seeds each: over 1,000 (a): 600 test samples are too few.")
    assert covered == (
        "Intervals and p-values of differences cover the noise of the test sample (sd 0.005) and "
        "that of training (sd of one run 0.01, pooled over 2 models, 2 to 3 seeds each). Not "
        "covered: other training sets and splits."
    )
    alone = sentences([runs_of("best"), compared("a", -0.004, resolved=False, count=1)])
    assert alone[2] == "With 1 seed each a difference below 0.03 could not be seen."
    assert "these networks, not of their recipes" in alone[3]


def test_how_many_recipes_were_scored_on_a_slice_is_told():
    said = sentences([runs_of("a")], (), 7)[1]
    assert said.startswith("7 recipes have been scored on this test slice so far")
    assert not any("scored on" in sentence for sentence in sentences([runs_of("a")], (), 1))


def test_models_of_one_validation_score_are_not_ranked_by_it():
    """As images that one generator has drawn in several ways."""
    scores = (0.9, 0.9, 0.9, 0.8)
    models = [runs_of(f"m{i}", valid_score=score) for i, score in enumerate(scores)]
    said = "Validation picks none of the first 3 models, which share their AUC 0.9000; the first"
    assert best_model(models).startswith(said)
    assert best_model(models[2:]).startswith("Best by validation: m2")
    unvalidated = [runs_of(label, valid_score=None) for label in "ab"]
    assert "picks none" not in best_model(unvalidated)


def test_a_note_says_whose_it_is():
    other = runs_of("b", notes=["of all"], valid_score=0.8)
    models = [runs_of("a", notes=["of all", "of one"], count=2), other]
    said = sentences(models, notes=["a picture is missing"])
    assert said[2:5] == [
        "Note: of all (all models).", "Note: of one (a).", "Note: a picture is missing."
    ]  # fmt: skip


def test_a_note_of_some_runs_of_a_model_says_whose_seeds():
    one, two = runs_of("a", count=3), runs_of("b", count=1, valid_score=0.8)
    for seed, run in enumerate(one.runs):
        run |= {"seed": seed, "notes": [f"threshold {seed}", *["early"] * (seed > 0)]}
    two.runs[0]["notes"] = ["early"]
    assert sentences([one, two])[2:6] == [
        "Note: threshold 0 (a seed 0).", "Note: threshold 1 (a seed 1).",
        "Note: early (a seeds 1, 2; b).", "Note: threshold 2 (a seed 2).",
    ]  # fmt: skip


def test_runs_that_were_carried_out_differently_are_told():
    model = runs_of("a", count=3, resolved={"processes": [1], "amp": "off"})
    model.runs[2]["resolved"] = {"processes": [1, 2], "amp": "off"}
    (note,) = [sentence for sentence in sentences([model]) if "carried out" in sentence]
    assert note.startswith("Note: runs of a were carried out differently")
    assert note.endswith("may change a score: processes 1 (2), 1 and 2 (1).")
    model.runs[2]["resolved"] = {"processes": [1], "amp": "off", "graph": False}
    assert not any("carried out" in sentence for sentence in sentences([model]))  # older runs


def test_the_last_sentence_is_by_which_code_and_when():
    models = [runs_of("a", updated="2026-02-03T10:00"), runs_of("b", updated="2026-02-01T11:00")]
    models[1].runs[0]["commit"] = None
    said = sentences(models)[-1]
    assert said == "Code abc, of unknown commit; runs finished 2026-02-01 to 2026-02-03."
    assert sentences([runs_of("a")])[-1] == "Code abc; runs finished at an unknown time."
