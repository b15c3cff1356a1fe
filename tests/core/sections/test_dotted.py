"""Fields by dotted names, and back where several are one setting."""

from __future__ import annotations

from deeplense_batch.core.sections.dotted import flat_fields, joined


def test_every_field_has_its_dotted_name_in_order():
    section = {"b": 1, "a": {"c": [2], "d": {"e": None}, "f": {}}}
    assert [*flat_fields(section)] == [("b", 1), ("a.c", [2]), ("a.d.e", None)]
    assert [*flat_fields({"x": 1}, "data.")] == [("data.x", 1)]


def test_settings_that_are_mappings_are_joined_again():
    flat = {
        "task.options.adapt.to.root": "a", "task.options.adapt.by": "mmd",
        "data.simulate.images": 9, "data.root": "b",
    }  # fmt: skip
    assert joined(flat) == {
        "task.options.adapt": {"to": {"root": "a"}, "by": "mmd"},
        "data.simulate": {"images": 9}, "data.root": "b",
    }  # fmt: skip
    assert joined({"data.simulate": None}) == {"data.simulate": None}
