"""Tables of text: names in their place, every value below its own, comments left out."""

import pytest

from deeplense_batch.data.catalogues.separated import names_in_text, read_separated
from deeplense_batch.data.catalogues.table import read_table
from deeplense_batch.data.shards import ShardError

ROWS = {"id": ["1", "2"], "file": ["a.npy", "b.npy"], "label": ["0", "1"]}


@pytest.mark.parametrize(
    "text",
    [
        "id,file,label\n1,a.npy,0\n2,b.npy,1\n",
        "# id,file,label\n1,a.npy,0\n2,b.npy,1\n",
        "# from the archive\n#\n# id file label\n\n1 a.npy 0 \n2 b.npy 1 \n",
        "# columns: id,file,label\nid,file,label\n1,a.npy,0\n2,b.npy,1\n",
        "# three, words, above\nid,file,label\n1,a.npy,0\n2,b.npy,1\n",
        "id;file;label\r\n1;a.npy;0\r\n# 3;c.npy;1;removed\r\n2;b.npy;1\r\n",
        "\ufeffid,file,label\n1,a.npy,0,\n2,b.npy,1,\n",
    ],
)
def test_names_are_found_below_or_in_comments(text):
    assert read_separated(text.encode()).to_dict("list") == ROWS
    assert names_in_text(text.encode()) == list(ROWS)


def test_a_row_with_more_values_than_names_is_refused_wherever_it_is(tmp_path):
    path = tmp_path / "t.csv"
    for text, why in {
        "id,label\n1,0,x\n2,1\n": r"t\.csv: row 1 ends in a surplus value 'x', but only 2 columns",
        "id,label\n1,0\n2,1,y\n": r"t\.csv: row 2 ends in a surplus value 'y', but only 2 columns",
        "# two\nid,label\n1,0,x,y\n": r"t\.csv: line 3 has 4 values, but only 2 columns",
    }.items():
        path.write_text(text)
        with pytest.raises(ShardError, match=why):
            read_table(path)


def test_a_hash_in_a_value_or_a_name_is_no_comment():
    text = '#,name\n"#1","two\n# lines"\n2,see #3\n'
    assert read_separated(text.encode()).to_dict("list") == {
        "#": ["#1", "2"],
        "name": ["two\n# lines", "see #3"],
    }
