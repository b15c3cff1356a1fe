"""Names with numbers are in the order of the numbers."""

from deeplense_batch.data.formats.natural import natural


def test_numbers_in_names_count():
    assert sorted(["10.npy", "2.npy", "a2b10", "a2b9"], key=natural) == [
        "2.npy", "10.npy", "a2b9", "a2b10",
    ]  # fmt: skip
