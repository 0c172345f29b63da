"""Groups, tables, matrices and figures by data set: what they stand for, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from harness import paths, plan
from harness.report import listing
from harness.specs import catalog, yamlfile
from harness.specs.editor import editor_schema
from harness.specs.expand import expand
from harness.specs.nodes import ShortFormError
from harness.specs.validate import validate

ROOT = Path(__file__).parents[3]
GROUP = """
  - source: {where: Table 3, seen_in: nowhere}
    quantity: {of: good, on: theory}
    criterion: {greater_than: 0}
    control: {variant: broken, must_be: lower}
    claims:
      - id: above-zero
        statement: Good is above zero.
        quantity: {value: score}
        reported: {text: above}
      - id: seven
        statement: There are seven.
        quantity: {value: count}
        criterion: {within: 0}
        control: null
        reported: {value: 7}
        source: {where: Table 4}
      - id: elsewhere
        statement: It was seen elsewhere.
        not_run: nobody was there
        reported: {text: seen}
"""
TABLE = """
  - id: "{row}-{column}"
    statement: "{name} has {value:,} at {column}, {value:.2f} exactly."
    quantity: {value: "{metric}", of: "{row}", on: theory}
    criterion: {within: "{margin}"}
    reported: {unit: pieces}
    source: {where: "Table 5, {name}", seen_in: nowhere}
    table:
      columns: {score: {metric: score, margin: 0.5}, count: {metric: count, margin: 0}}
      rows:
        good: {name: Good, cells: [1234.5, 7]}
        bad: {name: Bad, cells: [~, 3]}
"""


def written(text: str, tmp_path: Path) -> yamlfile.YamlFile:
    path = tmp_path / "short.yaml"
    path.write_text(text)
    return expand(yamlfile.load(path))


def add(project: Path, text: str) -> Path:
    path = project / "experiments" / "toy" / "spec.yaml"
    path.write_text(path.read_text() + text.lstrip("\n"))
    return path


def line_of(path: Path, text: str) -> int:
    """The last line with this text."""
    lines = enumerate(path.read_text().splitlines(), 1)
    return [number for number, line in lines if text in line][-1]


def test_a_group_holds_defaults_for_its_claims(project: Path) -> None:
    add(project, GROUP)
    assert validate("toy") == []
    above, seven, elsewhere = catalog.load("toy").claims[-3:]
    assert above.criterion.greater_than == 0 and above.control.variant == "broken"
    assert seven.criterion.kind == "within" and seven.control is None
    assert (seven.source.where, seven.source.seen_in) == ("Table 4", "nowhere")
    assert elsewhere.quantity is None and elsewhere.control is None


def test_groups_nest(project: Path) -> None:
    inner = GROUP.lstrip("\n").replace("\n", "\n    ").rstrip() + "\n"
    add(project, f"  - by: others\n    claims:\n    {inner}")
    assert {claim.by for claim in catalog.load("toy").claims[-3:]} == {"others"}


def test_a_table_is_a_claim_for_every_cell_that_is_not_empty(project: Path) -> None:
    add(project, TABLE)
    assert validate("toy") == []
    first, *others = catalog.load("toy").claims[-3:]
    assert [claim.id for claim in (first, *others)] == ["good-score", "good-count", "bad-count"]
    assert first.statement == "Good has 1,234.5 at score, 1234.50 exactly."
    assert first.quantity.metric == "score" and first.quantity.of.variant == "good"
    assert (first.criterion.within, first.reported.value, first.reported.unit) == (
        0.5,
        1234.5,
        "pieces",
    )
    assert first.source.where == "Table 5, Good"


def test_a_cell_may_hold_several_figures(project: Path) -> None:
    table = TABLE.replace("table:", "table:\n      cell: [value, std, n]")
    add(
        project,
        table.replace("[1234.5, 7]", "[[5, 0.5, 3], [7, 0.1, 3]]").replace(
            "[~, 3]", "{count: [3, 1, 9]}"
        ),
    )
    reported = [claim.reported for claim in catalog.load("toy").claims[-3:]]
    assert [(r.value, r.std, r.n) for r in reported] == [(5, 0.5, 3), (7, 0.1, 3), (3, 1, 9)]


@pytest.mark.parametrize(
    ("old", "new", "at", "says"),
    [
        ("{name} has", "{nam} has", "statement:", "no word for {nam}; there are row, name"),
        ("[1234.5, 7]", "[1234.5]", "good: {", "1 cells for 2 columns"),
        ("[~, 3]", "[~, [3, 1]]", "bad: {", "a cell holds value"),
        ("[~, 3]", "{counts: 3}", "bad: {", "one for each column, or by column"),
        ("margin: 0}", "name: 0}", "good: {", "the word 'name' is given twice"),
        ("rows:", "row:", "table:", "a table has rows"),
        ("{value:,}", "{name:,}", "statement:", "must be a number"),
        ("margin: 0.5", "margin: wide", "columns:", "valid number"),
        ("where: \"Table 5, {name}\", ", "", "source:", "this key is required"),
        ("of: \"{row}\"", "of: \"{row}d\"", "quantity: {value: \"{metric}\"", "no variant 'goodd'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_table_is_named_with_its_line(project: Path, old, new, at, says) -> None:
    assert old in TABLE
    path = add(project, TABLE.replace(old, new))
    problems = validate("toy")
    found = [problem for problem in problems if says in problem.message]
    assert found, "\n".join(map(str, problems))
    assert found[0].line == line_of(path, at)


def test_variants_by_matrix(project: Path, edit_spec) -> None:
    before = catalog.load("toy")
    old = {t.id for t in plan.plan(before, "cpu", ["theory"])}
    text = (project / "experiments" / "toy" / "spec.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("  good: {", "  bad: {"))]
    at = lines.index("variants:") + 1
    lines[at:at] = [
        '  "{quality}":',
        "    matrix:",
        "      quality: {good: {how: {level: 2.0}, role: paper}, bad: {how: {}, role: baseline}}",
        '    label: "{quality}"',
        '    role: "{role}"',
        "    datasets: [theory]",
        '    procedure: {init_args: "{how}"}',
    ]
    (project / "experiments" / "toy" / "spec.yaml").write_text("\n".join(lines) + "\n")
    paper = catalog.load("toy")
    assert list(paper.variants) == list(before.variants)
    assert {t.id for t in plan.plan(paper, "cpu", ["theory"])} == old


def test_a_matrix_combines_its_axes(tmp_path: Path) -> None:
    matrix = "matrix: {width: [8, 16], act: [relu, tanh]}"
    text = f'variants: {{"w{{width}}-{{act}}": {{{matrix}, model: {{width: "{{width}}"}}}}}}\n'
    found = written(text, tmp_path).data["variants"]
    assert list(found) == ["w8-relu", "w8-tanh", "w16-relu", "w16-tanh"]
    assert found["w16-relu"]["model"] == {"width": 16}
    with pytest.raises(ShortFormError, match="two entries have the name 'w8'"):
        written(text.replace("-{act}", ""), tmp_path)


def test_overrides_by_table_and_those_of_the_paper(project: Path) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    override = """overrides:
  - table: {cell: [level], columns: [theory], rows: {good: {cells: [5.0]}, bad: {cells: [4.0]}}}
    when: {variant: "{row}", dataset: "{column}"}
    procedure: {init_args: {level: "{level}"}}
tiers:
"""
    path.write_text(path.read_text().replace("tiers:\n", override))
    tier = "  cpu: {description: a minute,"
    assert validate("toy") == []

    def level(variant: str) -> float:
        config = plan.settings(catalog.load("toy"), "cpu", variant, "theory").config
        return config["procedure"]["init_args"]["level"]

    assert (level("good"), level("bad"), level("broken")) == (5.0, 4.0, -3.0)
    path.write_text(
        path.read_text().replace(tier, f"{tier} procedure: {{init_args: {{level: 1.0}}}},")
    )
    assert level("good") == 1.0  # the tier's own settings come later
    path.write_text(path.read_text().replace('"{row}", dataset', '"{row}x", dataset'))
    assert "no match for 'goodx'" in str(validate("toy")[0])


def test_settings_of_data_are_no_words(tmp_path: Path) -> None:
    model = '{n: "${data.features}", m: "${x}", o: "{data.n}"}'
    text = f'variants: {{"{{x}}": {{matrix: {{x: [a]}}, model: {model}}}}}\n'
    model = written(text, tmp_path).data["variants"]["a"]["model"]
    assert model == {"n": "${data.features}", "m": "${x}", "o": "{data.n}"}


def test_what_a_short_form_comes_to_is_bounded(tmp_path: Path) -> None:
    axis = "[" + ", ".join(map(str, range(100))) + "]"
    with pytest.raises(ShortFormError, match="more than 100,000 values"):
        written(
            f'variants: {{"{{a}}{{b}}{{c}}": {{matrix: {{a: {axis}, b: {axis}, c: {axis}}}}}}}\n',
            tmp_path,
        )
    long = "x" * 999
    text = f'variants: {{"{{a}}": {{matrix: {{a: [{long}]}}, label: "{"{a}" * 11}"}}}}\n'
    with pytest.raises(ShortFormError, match="more than 10,000 characters"):
        written(text, tmp_path)
    with pytest.raises(ShortFormError, match="more than 1,000 characters"):
        written(text.replace(long, long + "xx").replace('"{a}": ', "b: "), tmp_path)
    claims = "claims: [" + "{claims: [" * 5 + ", ".join(["{id: a}"] * 5000) + "]}" * 5 + "]\n"
    deep = claims.replace("{claims: [", "{control: " + axis + ", claims: [", 1)
    with pytest.raises(ShortFormError, match="more than 100,000 values"):
        written(deep, tmp_path)


def test_the_list_counts_what_short_forms_stand_for(project: Path) -> None:
    add(project, GROUP + TABLE.lstrip("\n"))
    paper = catalog.load("toy")
    (row,) = listing.papers()
    assert (row["claims"], row["variants"]) == (len(paper.claims), len(paper.variants)) == (10, 5)


def test_editors_accept_what_the_schema_accepts(project: Path) -> None:
    check = Draft202012Validator(editor_schema())
    specs = [*ROOT.glob("experiments/*/spec.yaml"), add(project, GROUP + TABLE.lstrip("\n"))]
    for path in specs:
        error = best_match(check.iter_errors(yamlfile.load(path).data))
        assert error is None, f"{path}: {error and error.message}"
    assert len(specs) > 1 and paths.root() == project


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("criterion: {within: 0}\n        control", "criterion: {wthin: 0}\n        control"),
        ("table:\n", "tabel:\n"),
        ("rows:", "row:"),
        ("role: baseline", "rolle: baseline"),
        ("id: seven\n        statement", "id: seven\n        statements"),
    ],
)
def test_editors_mark_what_the_schema_refuses(project: Path, old, new) -> None:
    path = add(project, GROUP + TABLE.lstrip("\n"))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert validate("toy")
    assert not Draft202012Validator(editor_schema()).is_valid(yamlfile.load(path).data)
