"""README and docs/ say what the code says: fields, verbs, recipes, folders, links."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from conftest import REPOSITORY

from deeplense_batch.cli.verbs import VERBS, read
from deeplense_batch.core.recipe import load_jobs

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
RECIPES = sorted((REPOSITORY / "jobs").glob("*.yaml"))
PROGRAM = re.compile(r"(?:python -m deeplense_batch|scripts/podman_run\.sh) ([^\n`]+)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(
    r"`((?:deeplense_batch|jobs|scripts|slurm|tests|benchmarks|research|docs)/[\w./-]+)`"
)
MADE = {  # by the suite, or by who follows the examples of development.md
    "slurm/generated", "slurm/generated/", "deeplense_batch/cluster/ssh.py",
    "deeplense_batch/models/tiny_cnn.py", "deeplense_batch/tasks/proportion.py",
}  # fmt: skip
ROW = re.compile(r"^\| `(\w+)/` \| (.*) \|$", re.M)


def script():
    """`scripts/write_docs.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(
        "write_docs", REPOSITORY / "scripts" / "write_docs.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """The names by which links reach the headings of a page, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(text: str) -> list[str]:
    """The words of the command lines of a text; comments and shell syntax are cut off."""
    joined = re.sub(r"\\\n\s*(?:# *)?", " ", text)
    return [re.split(r"\s#|\s{2,}\(|[;|>]", words)[0].strip() for words in PROGRAM.findall(joined)]


def test_running_the_script_changes_nothing():
    module = script()
    used = set()
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        used |= set(re.findall(r"<!-- ([\w-]+) -->", text))
        assert module.rendered(text) == text, f"run scripts/write_docs.py: {page.name} is old"
    assert used >= set(module.PARTS), "every table stands on some page"


def test_every_field_has_a_meaning():
    module = script()
    for table in ("fields", "simulate-fields", "evaluate-fields", "site-fields"):
        for line in module.PARTS[table]().splitlines():
            if line.startswith("| `"):
                assert line.rstrip(" |").count(" | ") == 4, f"no comment says what is: {line}"


def test_a_page_that_asks_for_a_table_that_is_not_there_is_refused():
    with pytest.raises(KeyError, match="verbz"):
        script().rendered("<!-- verbz -->\n<!-- end of verbz -->\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(page.read_text()):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_are_there(page):
    for path in set(PATH.findall(page.read_text())) - MADE:
        assert (REPOSITORY / path).exists(), path


def test_readme_says_of_each_folder_what_its_docstring_says():
    said = {}
    for path in (REPOSITORY / "deeplense_batch").glob("*/__init__.py"):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
        said[path.parent.name] = re.split(r"(?<=\.)\s", first.replace("\n", " "))[0]
    assert dict(ROW.findall(PAGES[0].read_text())) == said


@pytest.mark.parametrize("page", [*PAGES, *RECIPES], ids=lambda page: page.name)
def test_every_command_line_can_be_typed(page):
    found = commands(page.read_text())
    for words in found:
        if words.startswith("VERB"):
            continue
        assert read(shlex.split(words)).function is VERBS[words.split()[0]], words


def test_the_recipes_that_are_shown_can_be_loaded(tmp_path):
    shown = re.findall(r"```yaml\n(.*?)```", (DOCS / "jobs.md").read_text(), re.S)
    assert len(shown) == 7
    runs = []
    for text in shown:
        (tmp_path / "mine.yaml").write_text(text)
        runs.append(len(load_jobs(tmp_path / "mine.yaml")))
    assert runs == [1, 6, 30, 10, 1, 2, 2]


def test_readme_links_every_page():
    readme = PAGES[0].read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []


def test_readme_is_one_page():
    assert len(PAGES[0].read_text().splitlines()) < 180
