"""The site as a reader meets it: opened from disk, in a browser without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness import paths
from harness.report.markdown import write_all
from harness.report.site import Site, unlink, web_link

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NASTY = (
    "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium: the site's browser tests need Debian's chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def site(measured, edit_spec, add) -> Path:
    """The site of a paper whose texts try to break out of it, and of one without records."""

    def change(spec) -> None:
        spec["title"] = spec["summary"] = NASTY
        spec["code"] = "javascript:document.title='pwned'"
        spec["claims"][0]["statement"] = NASTY
        spec["variants"]["net"]["label"] = NASTY
        spec["metrics"]["accuracy"]["label"] = NASTY

    edit_spec(change)
    other = paths.experiments() / "other" / "spec.yaml"
    other.parent.mkdir()
    text = (paths.experiments() / "toy" / "spec.yaml").read_text()
    other.write_text(
        text.replace("key: toy", "key: other").replace("task: testing", "task: zoology")
    )
    other.write_text(
        re.sub(r"^title: .*?(?=^\w)", "title: Zebras\n", other.read_text(), flags=re.M | re.S)
    )
    write_all([Site()])
    return paths.results() / "site"


class Reader:
    """A page that notes errors and every request that is not a file of the site."""

    def __init__(self, browser, **context) -> None:
        self.page = browser.new_context(**context).new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None,
        )
        self.page.on("request", lambda r: self.requests.append(r.url))

    def open(self, path: Path):
        self.page.goto(path.as_uri())
        return self.page

    def scroll_through(self) -> None:
        self.page.evaluate(
            """async () => {
              for (let y = 0; y < document.body.scrollHeight; y += 500) {
                scrollTo(0, y); await new Promise(requestAnimationFrame);
              }
            }"""
        )
        self.page.wait_for_function(
            "[...document.querySelectorAll('.vega')].every(v => v.dataset.drawn)"
        )

    def check(self) -> None:
        assert self.errors == []
        outside = [u for u in self.requests if not u.startswith(("file:", "data:"))]
        assert outside == []


def visible(page) -> list[str]:
    return page.locator("#papers tbody tr:visible th a").all_inner_texts()


def test_every_page_opens_without_errors_or_network(browser, site) -> None:
    reader = Reader(browser, viewport={"width": 390, "height": 844}, offline=True)
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 6
    for path in pages:
        page = reader.open(path)
        assert page.title() not in ("", "pwned")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    reader.check()


def test_charts_are_drawn_in_both_themes(browser, site) -> None:
    for scheme in ("light", "dark"):
        reader = Reader(browser, color_scheme=scheme)
        page = reader.open(site / "papers" / "toy.html")
        reader.scroll_through()
        marks = page.evaluate(
            "Array.from(document.querySelectorAll('.vega'),"
            " v => v.querySelectorAll('path[d]').length)"
        )
        assert len(marks) == 1
        assert min(marks) > 5
        label = page.locator(".vega svg text").first
        colour = label.evaluate("node => getComputedStyle(node).fill")
        light = sum(map(int, re.findall(r"\d+", colour)[:3])) > 380
        assert light == (scheme == "dark")
        reader.check()


def test_nothing_in_a_spec_becomes_markup_or_script(browser, site) -> None:
    reader = Reader(browser)
    for name in ("index.html", "papers/toy.html", "models/index.html"):
        page = reader.open(site / name)
        assert "pwned" in page.inner_text("main")
        assert page.locator("main img").count() == 0
        assert page.locator("a[href^='javascript']").count() == 0
    reader.open(site / "papers" / "toy.html")
    reader.scroll_through()
    assert page.title() != "pwned"
    reader.check()


def test_the_table_sorts_by_mouse_and_keyboard(browser, site) -> None:
    reader = Reader(browser)
    page = reader.open(site / "index.html")
    head = page.locator("#papers thead th", has_text="Paper")
    head.get_by_role("button").click()
    first = visible(page)
    assert head.get_attribute("aria-sort") == "ascending"
    assert first[-1] == "Zebras"
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert visible(page) == first[::-1]
    count = page.locator("#papers thead th").nth(2)
    count.get_by_role("button").click()
    assert visible(page)[-1] == "Zebras"  # it has reproduced nothing
    reader.check()


def test_filters_and_search_narrow_the_table(browser, site) -> None:
    reader = Reader(browser)
    page = reader.open(site / "index.html")
    assert len(visible(page)) == 2
    page.select_option("select[name=verdict]", "reproduced")
    assert "Zebras" not in visible(page)
    assert page.inner_text("form.filter output") == "1 of 2"
    page.select_option("select[name=verdict]", "")
    page.select_option("select[name=task]", "zoology")
    assert visible(page) == ["Zebras"]
    page.select_option("select[name=task]", "")
    page.select_option("select[name=evidence]", "none")
    assert visible(page) == ["Zebras"]
    page.select_option("select[name=evidence]", "")
    page.fill("input[name=q]", "zEb other")
    assert visible(page) == ["Zebras"]
    page.fill("input[name=q]", "nothing like it")
    assert visible(page) == []
    reader.check()


CUT = """() => {
  const found = [];
  for (const chart of document.querySelectorAll(".vega, .axis")) {
    const room = chart.getBoundingClientRect();
    for (const mark of chart.querySelectorAll("text, path.mark, span, i")) {
      const box = mark.getBoundingClientRect();
      const beyond = Math.max(room.left - box.left, box.right - room.right);
      const short = mark.textContent.endsWith("…");  // as Vega ends what does not fit
      const room_for = mark.matches("text") ? 1 : 20;
      if (short || box.width && beyond > room_for) found.push(mark.outerHTML);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("width", [390, 1440])
def test_a_claim_has_an_address_and_nothing_in_a_chart_is_cut(browser, site, width) -> None:
    reader = Reader(browser, viewport={"width": width, "height": 900})
    page = reader.open(site / "papers" / "toy.html")
    page.locator("#claim-good-beats-bad a.permalink").click()
    assert page.url.endswith("toy.html#claim-good-beats-bad")
    view = page.locator("article:target")
    rows = view.locator("table.arms tbody tr th").all_inner_texts()
    assert [row.split("\n")[0] for row in rows[:2]] == ["as claimed", "control"]
    assert view.locator(".axis .seed").count() == 6
    assert "--claim good-beats-bad" in view.locator("pre").inner_text()
    reader.scroll_through()
    assert page.evaluate(CUT) == []
    reader.check()


def drawn(page) -> int:
    """Lines of a chart, once it has been drawn again."""
    return page.locator(".vega svg .mark-line path").count()


def test_a_reader_chooses_variants_axes_and_single_seeds(browser, site) -> None:
    reader = Reader(browser)
    page = reader.open(site / "papers" / "toy.html")
    reader.scroll_through()
    panel = page.locator("figure.panel")
    times = 1

    def click(name: str) -> int:
        nonlocal times
        times += 1
        panel.get_by_label(name, exact=True).click()
        page.wait_for_function(f"document.querySelector('.vega').dataset.drawn >= {times}")
        return drawn(page)

    assert drawn(page) == 2
    assert click("wide") == 1
    assert click("wide") == 2
    assert click("single seeds") == 2 + 4, "two means, two seeds of each"
    ticks = page.locator(".vega .role-axis-label text").all_inner_texts()
    click("log y")
    assert page.locator(".vega .role-axis-label text").all_inner_texts() != ticks
    reader.check()


CONTRAST = """() => {
  const luminance = (c) => {
    const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => {
      v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const c = getComputedStyle(node).backgroundColor;
      if (c !== "rgba(0, 0, 0, 0)" && c !== "transparent") return c;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("svg, script, option")) continue;
    const [a, b] = [luminance(getComputedStyle(node).color), luminance(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${node.className || node.tagName} ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser, site, scheme) -> None:
    reader = Reader(browser, color_scheme=scheme)
    for name in ("index.html", "papers/toy.html", "models/index.html"):
        assert reader.open(site / name).evaluate(CONTRAST) == []


def test_pages_are_complete_without_scripts(browser, site) -> None:
    reader = Reader(browser, java_script_enabled=False)
    page = reader.open(site / "papers" / "toy.html")
    assert "2.10 [1.85, 2.35]" in page.inner_text("main")
    assert "Some CPU" in page.inner_text("main")


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.targets.append(value)
            if name == "id" and value:
                assert value not in self.ids, f"{value} twice"
                self.ids.add(value)


def test_links_and_anchors_resolve(site) -> None:
    parsed = {}
    for path in site.rglob("*.html"):
        parsed[path] = Links()
        parsed[path].feed(path.read_text())
    for path, links in parsed.items():
        for target in links.targets:
            if target.startswith(("https://", "data:")):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            assert file.is_file(), f"{path.name} -> {target}"
            assert not anchor or anchor in parsed[file].ids, f"{path.name} -> {target}"


def test_a_new_site_replaces_the_old_one(measured) -> None:
    old = paths.results() / "site" / "papers" / "gone.html"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    write_all([Site()])
    assert not old.exists()
    assert (paths.results() / "site" / "papers" / "toy.html").is_file()
    index = (paths.results() / "site" / "index.html").read_text()
    assert "Many claims at once" in index and "rest on 3 measurements" in index


def test_bad_files_are_named_and_the_site_is_built(spoil) -> None:
    write_all([Site()])
    index = (paths.results() / "site" / "index.html").read_text()
    assert all(path.name in index for path in spoil)


def test_pages_do_not_grow_with_the_records(add) -> None:
    for seed in range(205):
        add("smoke", "good", "theory", seed, score=1.0, series={"score": [1.0] * 200})
    write_all([Site()])
    page = (paths.results() / "site" / "papers" / "toy.html").read_text()
    assert page.count("<td>done</td>") == 200
    assert "And 5 more in" in page
    assert len(page) < 100_000


def test_only_web_addresses_are_linked() -> None:
    assert web_link("https://example.org") == "https://example.org"
    assert web_link("javascript:alert(1)") == web_link("file:///etc/passwd") == ""
    assert unlink("[a](b.py) [c](https://d.org) [e](../f)") == "a [c](https://d.org) e"
