"""Numbers of classes as a run has them; drawing and measuring is tested with `measure`."""

from __future__ import annotations

import numpy as np
from conftest import make_job
from made_runs import untrained
from made_shards import write_shards

from deeplense_batch.data.shards import open_split
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.runs.evaluating.drawn_images import seen_by


def test_classes_have_the_numbers_that_the_run_gives_their_names(shards, tmp_path):
    trained = open_trained(untrained(make_job(shards), tmp_path / "runs").run.path)
    images = np.zeros((5, 1, 24, 24), np.uint16) + np.arange(24, dtype=np.uint16)
    names = ("vort", "unheard", "no")
    write_shards(tmp_path / "d", "sky", images, np.array([0, 1, 2, -1, 2]), names)
    split = seen_by(trained, open_split(tmp_path / "d", "sky"))
    assert split.targets().tolist() == [2, -1, 0, -1, 0]
