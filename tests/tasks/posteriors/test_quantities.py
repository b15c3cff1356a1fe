"""Names of numbers behind an image, and what they are in the shards."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.tasks.posteriors.quantities import (
    Quantity,
    read_quantities,
    wrong_number,
)


@pytest.mark.parametrize(
    ("text", "truth", "place", "name", "moves"),
    [
        ("theta_e", "theta_e", None, "theta_e", False),
        ("lens.q", "lens", 2, "lens_q", False),
        ("lens.2", "lens", 2, "lens_2", False),
        ("lens.x", "lens", 0, "lens_x", True),
        ("shear.g1", "shear", 0, "shear_g1", True),
        ("mags.3", "mags", 3, "mags_3", False),
        ("v1.total", "v1.total", None, "v1_total", False),
    ],
)
def test_a_number_is_a_truth_or_one_of_its_numbers(text, truth, place, name, moves):
    found = Quantity.read(text)
    assert (found.truth, found.place, found.name, found.moves) == (truth, place, name, moves)


@pytest.mark.parametrize(
    ("text", "log10", "is_length"),
    [
        ("theta_e", False, True),
        ("theta_e", True, True),
        ("lens.x", False, True),
        ("lens.0", False, True),
        ("source.radius", False, True),
        ("galaxy.radius", False, True),
        ("place.y", False, True),
        ("vortex.length", True, True),
        ("lens.q", False, False),
        ("lens.phi", False, False),
        ("source.n", False, False),
        ("vortex.mass", True, False),
        ("los.kappa", False, False),
        ("axion_mass_ev", False, False),
    ],
)
def test_a_zoom_changes_lengths_and_places(text, log10, is_length):
    assert Quantity.read(text, log10=log10).is_length == is_length


def test_values_are_those_of_the_truth_or_their_logarithm():
    lens = torch.tensor([[0.0, 1.0, 0.5, 2.0], [1.0, 0.0, 0.25, 3.0]])
    assert Quantity.read("lens.q").values(lens).tolist() == [0.5, 0.25]
    logs = Quantity.read("mass", log10=True)
    assert logs.values(torch.tensor([100.0, 0.1])).tolist() == pytest.approx([2, -1])
    assert (logs.label, logs.name, logs.unit) == ("log10 mass", "log10_mass", "dex")
    with pytest.raises(ValueError, match=r"lens has 4 numbers an image; expected one"):
        Quantity.read("lens").values(lens)


def test_a_list_says_which_are_logarithms():
    some = read_quantities(["theta_e", "mass"], ["mass"])
    assert [one.log10 for one in some] == [False, True]
    assert [one.log10 for one in read_quantities(["theta_e", "mass"], True)] == [True, True]


@pytest.mark.parametrize(
    ("texts", "log10", "says"),
    [
        ([], False, r"targets: got \[\]; expected a list of names"),
        ("theta_e", False, "targets: got 'theta_e'; expected a list"),
        ([["a"]], False, "expected a list of names"),
        (["a", "b", "a"], False, "targets: a is named twice"),
        (["a"], ["b"], "log10: b is none of the targets, a"),
        (["a"], "a", "log10: got 'a'; expected true, false or a list"),
        (["lens.z"], False, r"no number lens.z; allowed: lens.x, lens.y, lens.q, lens.phi"),
    ],
)
def test_what_is_no_list_of_numbers_is_a_sentence(texts, log10, says):
    with pytest.raises(ValueError, match=says):
        read_quantities(texts, log10)


def test_why_a_truth_has_no_such_number():
    assert wrong_number("theta_e", None, ()) == wrong_number("lens", 3, (4,)) == ""
    assert "expected lens.x, lens.y, lens.q, lens.phi, got lens.4" in wrong_number("lens", 4, (4,))
    assert "has 2 numbers an image; expected a.0 to a.1, got a" in wrong_number("a", None, (2,))
    assert "one number an image; expected a, got a.0" in wrong_number("a", 0, ())
    assert "25 x 3 numbers an image, of which none" in wrong_number("halos", 0, (25, 3))
