"""Work in pieces: one plan, one process that joins, damaged pieces anew, the folder away last."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from deeplense_batch.core.pieces import DamagedPieceError, Pieces, Progress
from deeplense_batch.core.rundir import RunDir


class Text(Pieces[int]):
    """A text of numbers, a file each."""

    def __init__(self, root: Path, count: int = 3) -> None:
        super().__init__(root / "parts", range(count))
        self.file = root / "text"
        self.made: list[int] = []

    def path_of(self, piece: int) -> Path:
        return self.folder / f"{piece}.txt"

    def make(self, pieces) -> None:
        self.made += pieces
        for piece in pieces:
            self.path_of(piece).write_text(str(piece))

    def _join(self, on_batch) -> None:
        for piece in self.pieces:
            if self.path_of(piece).read_text() != str(piece):
                raise DamagedPieceError(self.path_of(piece), "another number")
            on_batch()
        assert (self.folder / "claim").exists()
        self.file.write_text("".join(self.path_of(piece).read_text() for piece in self.pieces))


@pytest.fixture
def text(tmp_path) -> Text:
    text = Text(tmp_path)
    assert text.begin(lambda: {"of": "numbers"})
    return text


def nothing() -> None:
    pass


def test_the_first_plan_stays(text):
    assert not text.begin(lambda: pytest.fail("asked for a second plan"))
    assert text.plan() == {"of": "numbers"}
    assert json.loads((text.folder / "plan.json").read_text()) == text.plan()


def test_nothing_is_joined_while_pieces_are_missing(text):
    text.complete([0, 2], text.make, nothing)
    assert text.missing() == [1] and text.made == [0, 2] and not text.file.exists()
    text.complete([0, 1], text.make, nothing)
    assert text.made == [0, 2, 1] and text.file.read_text() == "012"
    assert not text.folder.exists()


def test_a_damaged_piece_is_made_anew_by_who_finds_it(text, caplog):
    text.make([0, 1, 2])
    text.path_of(1).write_text("cut")
    text.complete([0], text.make, nothing)
    assert text.made == [0, 1, 2, 1] and text.file.read_text() == "012"
    assert "1.txt: was damaged after it was made (another number); it is made anew" in caplog.text


def test_others_wait_for_the_one_that_joins(text):
    """The one at work ends while the other waits, which then finds nothing left to do."""
    text.make([0, 1, 2])
    claim = RunDir(text.folder).claim()
    claim.__enter__()
    waited = []

    def on_batch() -> None:
        waited.append(text.file.exists())
        text.clear()
        claim.__exit__(None, None, None)

    other = Text(text.file.parent)
    assert other.join(on_batch) == [] and waited == [False] and not other.file.exists()


def test_what_is_broken_off_is_joined_later(text):
    text.make([0, 1, 2])

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        text.join(stop)
    assert not (text.folder / "claim").exists() and not text.file.exists()
    assert text.join(nothing) == [] and text.file.read_text() == "012"


def test_progress_is_told_in_the_log_at_the_end(caplog):
    with caplog.at_level(logging.INFO), Progress("made", 5) as progress:
        progress.advance(2)
        assert not caplog.text
        progress.advance(3)
    assert "made 5 of 5 images" in caplog.text


def test_a_file_that_is_missed_while_pieces_are_joined_is_an_error(text, monkeypatch):
    """Not taken for the sign that another process has joined them."""
    text.make([0, 1, 2])

    def missed(on_batch) -> None:
        raise FileNotFoundError(2, "No such file or directory", "somewhere")

    monkeypatch.setattr(text, "_join", missed)
    with pytest.raises(FileNotFoundError):
        text.join(nothing)


def test_damage_of_a_file_that_is_no_piece_is_an_error_and_removes_nothing(text, monkeypatch):
    text.make([0, 1, 2])
    other = text.file.with_name("other")
    other.write_text("of somebody else")

    def damaged(on_batch) -> None:
        raise DamagedPieceError(other, "not ours")

    monkeypatch.setattr(text, "_join", damaged)
    with pytest.raises(DamagedPieceError, match="not ours"):
        text.join(nothing)
    assert other.exists() and text.folder.exists()
