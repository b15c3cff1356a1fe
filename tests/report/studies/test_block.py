"""A block is on every page: its title, sentences, table and figures."""

from dataclasses import replace

from report_content import row

from deeplense_batch.report.pages import html, markdown
from deeplense_batch.report.plots.pictures import Picture, write
from deeplense_batch.report.studies.block import Block


def test_a_block_is_on_both_pages(tmp_path):
    models = [{"label": "a", "mean": 0.9, "low": 0.8, "high": 0.95, "interval": "samples",
               "seeds": [0.9], "mark": "best"}]  # fmt: skip
    arguments = {"models": models, "score": "test AUC", "by": "validation", "compared": "AUC"}
    picture = Picture("own", "score_dots", arguments, "How <it> went.")
    block = Block("A <title>", ["It is so."], ["set", "AUC"], [["x", "0.9"]], [picture])
    write(tmp_path, block.pictures)
    content = {"counts": "1 run", "missing": "", "made": "", "copies": [], "rows": [row(0)],
               "comparisons": [], "blocks": [block.content()]}  # fmt: skip
    page = markdown.page(content)
    assert "## A \\<title\\>" in page and "| set | AUC |" in page and "(own.png)" in page
    page = html.web_page(content, tmp_path, {})
    assert "<h2>A &lt;title&gt;</h2>" in page and "<td>0.9</td>" in page
    assert "How &lt;it&gt; went." in page
    assert '<a href="#block-1">A &lt;title&gt;</a></p>' in page
    headed = replace(block, headline="It went <well>.").content()
    page = html.web_page(content | {"blocks": [headed]}, tmp_path, {})
    assert '<a href="#block-1">A &lt;title&gt;</a><br>\nIt went &lt;well&gt;.</p>' in page
