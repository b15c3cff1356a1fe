"""Columns are known by the names they usually have, those of tables and of sets alike."""

from deeplense_batch.data.catalogues.usual import USUAL, usual_columns
from deeplense_batch.data.sources.sets.ids import may_be_ids


def test_a_well_known_name_wins_over_all_others():
    assert usual_columns(["id", "id_str", "file_loc", "image"], "id") == ["id_str"]
    assert usual_columns(["id", "id_str", "file_loc", "image"], "path") == ["file_loc"]
    assert usual_columns(["ID", "objid", "kind"], "id") == ["ID", "objid"]


def test_ids_of_sets_have_the_names_of_ids_of_tables():
    assert all(map(may_be_ids, USUAL["id"])) and not may_be_ids("label")
