"""All images are cut into pieces, each of one split."""

from __future__ import annotations

import numpy as np
import torch

from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.inference.images.inputs import open_inputs
from deeplense_batch.inference.images.piecewise import Piece

SHAPE = (1, 24, 24)
AS_THEY_ARE = Transform(None, None, "linear", (0.0,), (1.0,))
CPU = torch.device("cpu")


def test_shards_are_cut_into_pieces_of_one_split(shards):
    with open_inputs(shards, "", SHAPE) as inputs:
        assert len(inputs) == 227 and inputs.digest == data_digest(shards)
        pieces = inputs.pieces(50)
        assert [piece.size for piece in pieces] == [50, 50, 20, 50, 50, 7]
        names = inputs.names(pieces[3])
        split = open_split(shards, "val[:50]")
        assert names.ids == split.ids() and set(names.splits) == {"val"}
        assert names.labels == [split.info.classes[k] for k in split.targets()]
        (first, known), (second, _) = inputs.firsts([pieces[3], Piece("train", 7, 9)])
        assert np.array_equal(first, split.images()[0]) and known.ids == split.ids()[:1]
        assert np.array_equal(second, open_split(shards, "train[7:8]").images()[0])
    with open_inputs(shards, "val[10:13]", SHAPE) as inputs:
        pieces = inputs.pieces(2)
        assert pieces == [Piece("val", 0, 2), Piece("val", 2, 3)]  # of the slice
        own = [id_ for piece in pieces for id_ in inputs.names(piece).ids]
        assert own == open_split(shards, "val[10:13]").ids()


def test_pieces_of_folds_are_their_samples(shards):
    with open_inputs(shards, "val[folds 1,3/5]", SHAPE) as inputs:
        ids = [id_ for piece in inputs.pieces(20) for id_ in inputs.names(piece).ids]
        split = open_split(shards, "val[folds 1,3/5]")
        assert len(inputs) == len(split) and ids == split.ids()
        (image, known), *_ = inputs.firsts([inputs.pieces(20)[1]])
        assert known.ids == split.ids()[20:21] and np.array_equal(image, split.images()[20])
