"""A batch is worked on in the largest pieces that have room."""

from __future__ import annotations

import weakref

import pytest
import torch

from deeplense_batch.data.batches.room import Room


def test_pieces_are_halved_until_they_have_room_and_stay_so(caplog):
    room, asked = Room(), []

    def on(part: slice) -> list[int]:
        asked.append(part.stop - part.start)
        if asked[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(part.start, part.stop))

    for count in (10, 4, 2):
        assert [i for part in room.pieces(count, on) for i in part] == list(range(count))
    assert asked == [10, 5, 3, 3, 3, 1, 3, 1, 2] and room.most == 3
    assert [record.getMessage()[:28] for record in caplog.records] == [
        "out of memory: 5 samples at ", "out of memory: 3 samples at "
    ]  # fmt: skip


def test_a_batch_goes_on_where_memory_ran_out_and_begins_with_what_is_asked():
    full, asked = [False, True, False, False], []

    def on(part: slice) -> tuple[int, int]:
        asked.append((part.start, part.stop))
        if full[len(asked) - 1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return asked[-1]

    assert [*Room(4).pieces(8, on)] == [(0, 4), (4, 6), (6, 8)]
    assert asked == [(0, 4), (4, 8), (4, 6), (6, 8)]


def test_no_room_for_one_sample_is_the_end():
    def on(part: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        list(Room().pieces(3, on))


def test_what_a_failed_pass_held_is_free_before_the_next():
    held: list[weakref.ref] = []

    def on(part: slice) -> None:
        assert all(of() is None for of in held)
        activations = torch.zeros(3)
        held.append(weakref.ref(activations))
        if part.stop - part.start > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    list(Room().pieces(4, on))
    assert len(held) == 6  # passes of 4 and 2 samples that failed, then four of one
