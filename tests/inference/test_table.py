"""A table made piece by piece, whatever was killed and whatever lies there already."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from deeplense_batch.inference.table import PiecewiseTable, TableError, read_tables


def test_a_long_table_as_csv_is_read_as_it_was_written(tmp_path):
    """Megabytes without a problem do not make a number of an id, or nothing of a reason."""
    count, names = 100_000, ["007", "NA", ""]
    written = pa.table(
        {
            "id": pa.array([f"{i:06}" for i in range(count)] + names),
            "score_no": pa.array([None] * (count + 2) + [0.25], pa.float64()),
            "problem": pa.array([None] * (count + 2) + ["cut short, or"], pa.string()),
        }
    )
    pa_csv.write_csv(written, tmp_path / "a.csv")
    types = {name: written[name].type for name in ("problem", "score_no", "id")}
    found = pa.concat_tables(read_tables(tmp_path / "a.csv", types))
    assert found.equals(written.select(list(types)))


def answer(file: Path) -> PiecewiseTable:
    return PiecewiseTable(file, question={"of": "all"}, pieces=1)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_what_was_killed_when_the_table_was_there_is_cleared_by_the_next(
    tmp_path, monkeypatch, suffix
):
    file = tmp_path / f"p{suffix}"
    with monkeypatch.context() as patch:
        patch.setattr(PiecewiseTable, "clear", lambda self: None)  # killed before
        one = answer(file)
        one.start(dict)
        one.write(0, pa.table({"id": ["a"]}))
        one.join(lambda: None)
    assert (tmp_path / f"p{suffix}.parts").is_dir()
    content = file.read_bytes()
    assert answer(file).is_complete() and file.read_bytes() == content
    assert not (tmp_path / f"p{suffix}.parts").exists()


@pytest.mark.parametrize("content", ["{}", "[]", '{"question": 1}', '{"question": {"of": "all"}}'])
def test_a_foreign_plan_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "p.csv.parts").mkdir()
    (tmp_path / "p.csv.parts" / "plan.json").write_text(content)
    with pytest.raises(ValueError, match=r"p\.csv\.parts/plan\.json: (is none|expected a JSON)"):
        answer(tmp_path / "p.csv").start(dict)
    (tmp_path / "p.csv").touch()
    (tmp_path / "p.csv.json").write_text(content)
    if "all" not in content:
        with pytest.raises(TableError, match=r"is there already, and no answer of 'predict'"):
            answer(tmp_path / "p.csv").is_complete()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_pieces_in_any_order_are_one_table_that_knows_its_question(tmp_path, suffix):
    file = tmp_path / f"p{suffix}"
    parts = [pa.table({"id": [f"={i}"], "n": [i]}) for i in range(3)]  # a formula, to some
    one = PiecewiseTable(file, question={"of": "all"}, pieces=3)
    assert not one.is_complete()
    one.start(lambda: {"made": "today"})
    other = PiecewiseTable(file, question={"of": "all"}, pieces=3)
    other.start(lambda: {"made": "tomorrow"})
    assert other.details == {"made": "today"}  # of the process that began
    for number in (2, 0, 1):
        one.write(number, parts[number])
    one.join(lambda: None)
    types = {"id": pa.string(), "n": pa.int64()}
    assert pa.concat_tables(read_tables(file, types)).equals(pa.concat_tables(parts))
    assert other.is_complete() and not (tmp_path / f"p{suffix}.parts").exists()
    another = PiecewiseTable(file, question={"of": "some"}, pieces=3)
    with pytest.raises(TableError, match=r"another question \(of is all, asked some\)"):
        another.is_complete()
