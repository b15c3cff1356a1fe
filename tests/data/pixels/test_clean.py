"""Expected counts: where noise is drawn from them, and what is said where it is not."""

from __future__ import annotations

import pytest
from conftest import make_job
from made_sets import write_set

from deeplense_batch.core.job import JobError
from deeplense_batch.data.pixels.clean import about_clean, check_photons
from deeplense_batch.data.shards import open_split

NOISE = {"augment": {"photon_noise": True}}


@pytest.fixture
def sets(tmp_path):
    clean = write_set(tmp_path / "clean", level=50, sky=10.0)
    observed = write_set(tmp_path / "observed", seed=1)
    return clean, observed, [open_split(root, "train") for root in (clean, observed)]


def test_noise_is_drawn_of_expected_counts_alone(sets):
    root, observed, (clean, noisy) = sets
    job = make_job(root, data=NOISE)
    check_photons(job, [clean])
    with pytest.raises(JobError) as told:
        check_photons(job, [clean, noisy])
    assert str(told.value) == (
        f"small: data.augment.photon_noise: {observed} holds observed images, which have their "
        "noise; expected a set that 'simulate substructure --keep clean' has made, or false"
    )
    check_photons(make_job(root), [clean, noisy])


def test_images_without_noise_are_described(sets):
    root, _, (clean, noisy) = sets
    assert about_clean(make_job(root, data=NOISE), [clean, clean]) is None
    assert about_clean(make_job(root), [noisy]) is None
    told = about_clean(make_job(root), [noisy, clean, clean])
    assert told is not None and told.startswith(
        "images of clean are expected counts without noise"
    )
