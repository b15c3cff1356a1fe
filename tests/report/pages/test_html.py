"""The web page: what is in the file, and what a real browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from conftest import require_programs, wait_for
from report_content import NASTY, comparison, content, draw, model, row, usual
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from deeplense_batch.report.columns import number, p_value, score_names, time_unit, with_interval
from deeplense_batch.report.pages.html import web_page
from deeplense_batch.report.studies.block import Block

MINUS = "\N{MINUS SIGN}"
RECIPE = "name: small\nmodel: {name: <b>resnet18</b>}\n"


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """A folder with the figures of a comparison, and in `models` with those of a model."""
    folder = tmp_path_factory.mktemp("figures")
    draw(folder, "auc")
    draw(folder / "models/1-1", "confusion", "roc")
    return folder


def details_of(made, folder):
    """Recipe, figures and log of every model."""
    drawn = {name: f"models/1-1/{name}.png" for name in ("confusion", "roc")}
    models = [model for comparison in made["comparisons"] for model in comparison["models"]]
    return {m["run"]: {"recipe": RECIPE, "figures": drawn, "log": "a/log.txt"} for m in models}


def page_of(made, folder):
    return web_page(made, folder, details_of(made, folder))


class Elements(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_scores_are_written_with_the_digits_that_mean_something():
    assert with_interval(0.98752, 0.98511, 0.98999) == "0.9875 [0.985, 0.990]"
    assert with_interval(0.99941, 0.99902, 0.99978) == "0.9994 [0.9990, 0.9998]"
    assert (
        with_interval(-0.00121, -0.0031, 0.00004, signed=True)
        == f"{MINUS}0.0012 [{MINUS}0.0031, +0.0000]"
    )
    assert with_interval(1.0, 1.0, 1.0) == "1.0000 [1.000, 1.000]"
    assert with_interval(0.5, None, None) == "0.5000" and with_interval(None, None, None) == "-"
    assert [number(None), number(-2.5, 1), number(0.0, 0)] == ["-", f"{MINUS}2.5", "0"]
    assert [p_value(p) for p in (None, 0.0004, 0.0496, 1.0)] == ["-", "<0.001", "0.0496", "1.000"]
    assert [time_unit(seconds)[0] for seconds in (100, 200, 8000)] == ["s", "min", "h"]
    assert score_names([{"auc_mean": None, "r2_mean": 0.5}, {"r2_mean": 0.1, "place": 1}]) == [
        "r2"
    ]


def test_the_file_needs_no_other_but_the_figures_of_models(figures):
    elements = Elements(page_of(usual(), figures)).found
    tags = [tag for tag, _ in elements]
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(tags)
    assert (tags.count("script"), tags.count("style")) == (1, 1)
    for tag, attributes in elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            own = ("#", "data:image/", "models/1-1/")
            assert attributes.get(name, "#").startswith(own), (tag, attributes)


def test_names_are_text(figures):
    models = [model(place, name) for place, name in enumerate(NASTY, start=1)]
    bad = [row(9, job=name, state="failed", reason=name) for name in NASTY]
    plain = [row(9, job="a", state="failed", reason="a") for _ in NASTY]
    nasty = comparison(models, heading=NASTY[0], sentences=[*NASTY])
    nasty["figures"][0]["caption"] = NASTY[1]
    names = [model(place, "a") for place in range(1, 6)]
    tame = comparison(names, heading="a", sentences=["a"] * len(NASTY))
    found = [page_of(content([c], rows), figures) for c, rows in ((nasty, bad), (tame, plain))]
    of_nasty, of_tame = ([tag for tag, _ in Elements(page).found] for page in found)
    assert of_nasty == of_tame


def test_what_is_not_text_does_not_stop_the_page(figures):
    made = content([comparison([model(1, "a\udc80")])], [row(0)])
    assert "a\\udc80" in page_of(made, figures)


def test_only_the_first_models_of_a_page_open(figures, monkeypatch):
    monkeypatch.setattr("deeplense_batch.report.pages.html.OPENED", 30)
    halves = [
        comparison([model(p, f"m{p}", run=f"{k}/{p}") for p in range(1, 21)], number=k)
        for k in (1, 2)
    ]
    page = page_of(content(halves, [row(0)]), figures)
    assert page.count('src="models/1-1/') == 30 * 2
    assert page.count("It has the figures; its numbers are in") == 10


def test_what_is_not_known_of_a_model_is_left_out(figures):
    made = content([comparison([model(1, "a", run="a")])], [row(0)])
    assert "Recipe" not in web_page(made, figures, {"a": {}})
    with pytest.raises(FileNotFoundError):
        web_page(made, figures / "models", {})


def test_five_thousand_models_are_a_page_below_10_mb(figures):
    models = [model(place, f"a_model_of_some_name_{place}") for place in range(1, 5001)]
    page = page_of(content([comparison(models)], [row(k) for k in range(5000)]), figures)
    assert len(page) < 10e6


def test_what_no_model_knows_has_no_column_and_the_rest_is_a_dash(figures):
    """A comparison of a task with scores of its own, beside a model of which nothing is known."""
    unknown = {name: None for name in model(1, "a") if name not in ("place", "label")}
    scores = {"r2_mean": 0.9123, "r2_low": 0.901, "r2_high": 0.923, "rmse_mean": 0.25}
    models = [model(1, "a", **unknown | scores | {"valid_score": 0.9}), model(2, "b", **unknown)]
    page = page_of(content([comparison(models, classes=[], score="r2")], [row(0)]), figures)
    table = page[page.index("<table>") : page.index("</table>")]
    heads = re.findall(r"<th scope=\"col\".*?<button type=\"button\">(.*?)</button>", table)
    assert heads == ["#", "model", "seeds", "valid R2", "R2", "rmse"]
    cells = re.findall(r"<td.*?>(.*?)</td>", table)
    assert cells == ["1", "-", "0.9000", "0.9123 [0.901, 0.923]", "0.2500", "2", *"----"]
    assert "<strong>a</strong>: validation R2 0.9000" in page


def test_without_a_validation_score_no_model_is_the_best(figures):
    models = [model(place, "a", valid_score=None, resolved=None) for place in (1, 2)]
    page = page_of(content([comparison(models, sentences=[])], [row(0)]), figures)
    assert "2 models, none with a validation score to pick it by." in page
    for words in (">best<", 'class="near"', "by validation"):
        assert words not in page and words in page_of(usual(), figures)


def test_a_figure_of_very_many_marks_is_no_svg(tmp_path):
    draw(tmp_path, "auc")
    assert page_of(usual(), tmp_path).count("data:image/svg+xml") == 1
    with (tmp_path / "auc.svg").open("a") as file:
        file.write(" " * 400_000)
    assert "data:image/svg+xml" not in page_of(usual(), tmp_path)


def test_an_empty_comparison_has_a_page(tmp_path):
    page = page_of(content([], [row(0, state="running")]), tmp_path)
    assert "No run is done" in page and "Incomplete: 0 of 1 runs done." in page


# What follows is seen in a real browser.


class Browser:
    """A headless Chromium; `open` shows a page from a file, and the page must be without fault."""

    def __init__(self, driver, folder):
        self.driver, self.folder, self.opened = driver, folder, 0

    def open(self, page):
        self.opened += 1
        path = self.folder / f"{self.opened}.html"
        path.write_text(page, encoding="utf-8")
        draw(self.folder / "models/1-1", "confusion", "roc")
        self.driver.get(path.as_uri())
        self.path = path

    def all(self, selector, within=None):
        return (within or self.driver).find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, within=None):
        (found,) = self.all(selector, within)
        return found

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def column(self, table, name):
        """Texts of a column, of the rows that are shown."""
        return self.run(
            """const heads = [...arguments[0].querySelectorAll("thead th")];
            const place = heads.findIndex((head) => head.innerText.trim() === arguments[1]);
            const rows = [...arguments[0].tBodies[0].rows];
            return rows.filter((row) => !row.hidden && row.cells.length === heads.length)
                .map((row) => row.cells[place].innerText.trim());""",
            table,
            name,
        )

    def head(self, table, name):
        (found,) = [b for b in self.all("thead button", table) if b.text == name]
        self.run("arguments[0].scrollIntoView({block: 'nearest', inline: 'nearest'})", found)
        return found

    def media(self, **features):
        given = [{"name": name.replace("_", "-"), "value": v} for name, v in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": given})

    def faults(self):
        """Errors of the console, and addresses beside the file and what is inside it."""
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        own = self.path.parent.as_uri()
        return messages, [url for url in self.asked() if not url.startswith((own, "data:"))]

    def asked(self):
        """Addresses that the page has asked for since they were last looked at."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    require_programs("chromium", "chromedriver")
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.binary_location = shutil.which("chromium")
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver, tmp_path_factory.mktemp("pages"))
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium):
    """The browser; a page that made an error or asked for anything fails its test."""
    yield chromium
    assert chromium.faults() == ([], [])


def test_the_page_opens(browser, figures):
    browser.open(page_of(usual(), figures))
    models, runs = browser.all("table")
    assert len(browser.all("tbody tr", models)) == 6 and len(browser.all("tbody tr", runs)) == 18
    assert not browser.all(".banner") and not browser.all("#broken")
    assert "resnet18: test AUC 0.9902 [0.988, 0.992]" in browser.one(".glance").text
    assert "; the others: 2 lower, 3 not resolved." in browser.one(".glance").text
    assert browser.run("return document.querySelector('figure img').naturalWidth") > 0
    assert browser.column(models, "model")[1:5:3] == ["resnet50", "deit3_small"]


def test_a_table_of_a_block_is_not_cut_and_its_title_stands_off_the_figures(browser, figures):
    made = usual()
    heads = [f"gain over the mean {n}" for n in range(13)]
    block = Block("Ensembles", ["So."], heads, [["+0.0200 [-0.0336, +0.0736]"] * 13])
    made["comparisons"][0]["blocks"] = [block.content()]
    browser.open(page_of(made, figures))
    table = browser.one(".block")
    wide, shown = (table.get_property(name) for name in ("scrollWidth", "clientWidth"))
    assert wide <= shown
    captions = browser.all("section > .figures figcaption")
    below = max(one.rect["y"] + one.rect["height"] for one in captions)
    assert browser.one("section > h3").rect["y"] - below > 24


def test_figures_of_a_model_load_when_it_opens_and_a_missing_one_is_told(browser, figures):
    browser.open(page_of(usual(), figures))
    assert not any("models/1-1" in url for url in browser.asked())
    (browser.folder / "models/1-1/roc.png").unlink()
    browser.all("tbody th button")[0].click()
    wait_for(lambda: "models/1-1/roc.png is missing" in browser.one("tr.details").text)
    sizes = "return [...document.querySelectorAll('.details img')].map((i) => i.naturalWidth)"
    wait_for(lambda: browser.run(sizes) == [240])
    messages, asked = browser.faults()
    assert all("roc.png" in message for message in messages) and not asked


def test_the_policy_refuses_what_is_of_another_place(browser, figures):
    browser.open(page_of(usual(), figures))
    browser.driver.execute_async_script("""const [done] = arguments, image = new Image();
        image.onerror = () => done(); image.src = "https://127.0.0.1/other.png";""")
    (message,), _ = browser.faults()
    assert "violates" in message and "Content Security Policy" in message


def test_what_is_missing_is_said_on_top(browser, figures):
    failed = row(1, state="failed", reason="oom: out of memory", auc=None)
    made = usual()
    browser.open(page_of(content(made["comparisons"], [row(0), failed]), figures))
    banner = browser.one(".banner")
    assert banner.text.startswith("Incomplete: 1 of 2 runs done.")
    assert banner.location["y"] < 100
    line = browser.one("#broken tbody tr").text
    assert "failed oom: out of memory; submit --retry tries it again" in line
    assert "runs/comparison/001/log.txt" in line


def test_a_head_sorts_and_turns_with_what_is_unknown_last(browser, figures):
    flops = [9.5, None, 10.25, 0.5, None, 100.0]
    models = [model(place, f"m{place}", gflops=g) for place, g in enumerate(flops, start=1)]
    browser.open(page_of(content([comparison(models)], [row(0)]), figures))
    table = browser.all("table")[0]
    assert "GFLOPs" not in table.text  # few look for it
    browser.one(".more").click()
    head = browser.head(table, "GFLOPs")
    head.click()
    assert browser.column(table, "GFLOPs") == ["0.50", "9.50", "10.25", "100.00", "-", "-"]
    assert browser.one("th[aria-sort]", table).get_attribute("aria-sort") == "ascending"
    head.send_keys(Keys.ENTER)
    assert browser.column(table, "GFLOPs") == ["100.00", "10.25", "9.50", "0.50", "-", "-"]
    assert browser.one("th[aria-sort]", table).text == "GFLOPs"
    browser.head(table, "test AUC").click()
    assert browser.column(table, "#") == ["1", "2", "3", "4", "5", "6"]  # the highest first
    browser.head(table, "model").click()
    browser.head(table, "model").click()
    assert browser.column(table, "#")[0] == "6"


def test_times_are_sorted_within_a_device(browser, figures):
    given = [("GPU", 50.0), ("CPU", 90.0), ("GPU", 10.0), ("CPU", 70.0)]
    models = [
        model(place, f"m{place}", device=device, train_seconds=seconds)
        for place, (device, seconds) in enumerate(given, start=1)
    ]
    browser.open(page_of(content([comparison(models)], [row(0)]), figures))
    table = browser.all("table")[0]
    browser.head(table, "training, s").click()
    assert browser.column(table, "training, s") == ["70.0", "90.0", "10.0", "50.0"]
    browser.head(table, "training, s").click()
    assert browser.column(table, "training, s") == ["90.0", "70.0", "50.0", "10.0"]


def test_words_and_states_filter(browser, figures):
    states = ["done", "failed", "running", "failed"]
    rows = [row(k, state=state, seed=k) for k, state in enumerate(states)]
    browser.open(page_of(content(usual()["comparisons"], rows), figures))
    models, runs = browser.all(".table")
    browser.one("input", models).send_keys("RESNET resolved")
    assert len(browser.column(browser.one("table", models), "#")) == 1
    assert browser.one("output", models).text == "1 of 6 models"
    browser.one("input", models).send_keys(" nothing")
    assert browser.one("output", models).text == "0 of 6 models"
    browser.one("select", runs).send_keys("failed")
    assert browser.column(browser.one("table", runs), "seed") == ["1", "3"]
    browser.one("input", runs).send_keys("003")
    assert browser.column(browser.one("table", runs), "seed") == ["3"]
    assert browser.one("output", runs).text == "1 of 4 runs"


def test_a_row_opens_and_closes(browser, figures):
    browser.open(page_of(usual(), figures))
    table = browser.all("table")[0]
    button = browser.all("tbody th button", table)[1]
    button.click()
    (opened,) = browser.all("tr.details", table)
    assert button.get_attribute("aria-expanded") == "true"
    assert "runs/comparison/002" in opened.text and "a/log.txt" in opened.text
    assert browser.one("pre", opened).text == RECIPE.strip()
    assert "auc sphere mean" in opened.text and "0.9853" in opened.text
    sizes = "return [...arguments[0].querySelectorAll('img')].map((i) => i.naturalWidth)"
    wait_for(lambda: browser.run(sizes, opened) == [240, 240])
    after = "return arguments[0].nextElementSibling === arguments[1]"
    browser.head(table, "#").click()  # the last first
    assert browser.run(after, browser.all("tbody tr", table)[4], opened)
    browser.all("input")[0].send_keys("lens_vit")
    assert not opened.is_displayed()
    browser.all("input")[0].clear()
    browser.all("input")[0].send_keys(Keys.SPACE)
    assert opened.is_displayed()
    button.send_keys(Keys.ENTER)
    assert not browser.all("tr.details") and button.get_attribute("aria-expanded") == "false"
    browser.all("tbody td", table)[0].click()  # anywhere in the row
    assert len(browser.all("tr.details")) == 1


def test_names_do_nothing(browser, figures):
    models = [model(place, name) for place, name in enumerate(NASTY, start=1)]
    made = content([comparison(models, heading=NASTY[1])], [row(0, state="lost", reason=NASTY[0])])
    browser.open(page_of(made, figures))
    buttons = browser.all("tbody th button")
    for button in buttons:
        button.click()  # an alert would raise here
    assert [button.text for button in buttons] == [" ".join(name.split()) for name in NASTY]
    assert len(browser.all("script")) == 1 and not browser.all("img[src=x]")


def test_dark_and_light(browser, figures):
    browser.open(page_of(usual(), figures))
    colour = "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor"

    def brightness(selector):
        red_green_blue = browser.run(colour, selector).strip("rgba()").split(",")[:3]
        return sum(map(int, red_green_blue)) / 3

    try:
        browser.media(prefers_color_scheme="light")
        assert brightness("body") > 230
        browser.media(prefers_color_scheme="dark")
        assert brightness("body") < 40 and brightness("figure img") == 255
    finally:
        browser.media()


def test_a_telephone_scrolls_down_only(browser, figures):
    browser.open(page_of(usual(), figures))
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.all("tbody th button")[0].click()
        assert browser.run("return document.documentElement.scrollWidth") == 390
        assert browser.one(".details > td > div").size["width"] <= 390
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_paper_shows_whole_tables_without_controls(browser, figures):
    models = [model(place, f"m{place}") for place in range(1, 41)]
    browser.open(page_of(content([comparison(models)], [row(0)]), figures))
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not any(found.is_displayed() for found in browser.all(".filters"))
        scroll = browser.all(".scroll")[0]
        assert browser.run("return getComputedStyle(arguments[0]).maxHeight", scroll) == "none"
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_many_models_and_runs_are_sorted_opened_and_searched(browser, figures):
    models = [model(place, f"m{place}") for place in range(1, 201)]
    made = content([comparison(models)], [row(number) for number in range(1000)])
    browser.open(page_of(made, figures))
    models, runs = browser.all("table")
    browser.head(runs, "test AUC").click()
    browser.all("tbody th button", models)[40].click()
    assert browser.one("tr.details pre").text == RECIPE.strip()
    browser.all("input")[1].send_keys("comparison 99")
    assert browser.all("output")[1].text.endswith("of 1000 runs")
