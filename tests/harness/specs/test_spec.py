"""What a spec may say, and what its author is told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.specs import catalog, yamlfile
from harness.specs.claims import Claim, Criterion, Difference
from harness.specs.schema import Paper
from harness.specs.validate import validate


def write(project: Path, old: str, new: str) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def line_of(project: Path, text: str) -> int:
    lines = (project / "experiments" / "toy" / "spec.yaml").read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if text in line)


def test_the_toy_is_valid(project) -> None:
    assert validate("toy") == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("role: baseline", "rolle: baseline", "unknown key; did you mean 'role'?"),
        ("role: baseline", "role: basline", "'baseline'"),
        ("timeout: 1m}", "timeout: 1 fortnight}", "number with a unit (s, m, h, d)"),
        ("{within: 0}", "{within: 0, at_most: 1}", "exactly one of"),
        ("{difference: score", "{diference: score", "exactly one of the keys value, difference"),
        ("from: bad", "form: bad", "did you mean 'from'?"),
        ("reported: {value: 7}", "reported: {}", "give the reported value"),
        ("evidence: stand-in, ", "", "go together"),
        ("key: toy", "key: tony", "must be the folder's name 'toy'"),
        ("year: 2020", "year: .inf", "not a finite number"),
        ("year: 2020", "year: 1e999", "not a finite number"),
        ("year: 2020", "year: 1²e3", "valid integer"),
        ("role: baseline", "<<: {role: baseline}", "merge keys"),
        ("year: 2020", "year: 2020\nyear: 2021", "stands here twice"),
        ("label: good,", "label: !!python/name:os.system x,", "cannot be read"),
        ("from: bad", "from: badd", "no variant 'badd'; did you mean 'bad'?"),
        ("on: theory}", "on: theorem}", "no dataset 'theorem'; did you mean 'theory'?"),
        ("of: net, on: real", "of: net, on: digits", "name the paper's dataset"),
        ("source: mnist", "source: mnits", "did you mean 'mnist'?"),
        ("{value: count", "{value: counts", "no metric 'counts'; did you mean 'count'?"),
        ("variant: broken,", "variant: brokn,", "did you mean 'broken'?"),
        ("like: net", "like: wide", "goes in a circle"),
        ("[good, bad, broken]", "[good, bda*]", "no match for 'bda*'"),
        ("value: accuracy, of: net", "value: accuracy, of: good", "no metric of good 'accuracy'"),
        ("{hidden: 32}", "{hiden: 32}", "has no argument 'hiden'; did you mean 'hidden'?"),
        ("{hidden: 32}", "{hidden: many}", "Expected a <class 'int'>"),
        ("experiments.toy.parts.Net", "experiments.toy.parts.Nett", "did you mean 'Net'?"),
        ("experiments.toy.parts.Net", "os.system", "may not be named"),
        ("torch.optim.Adam, init_args: {lr", "torch.optim.Adam, init_args: {rl", "'rl'"),
        ("torch.optim.Adam", "torch.optim.Adm", "did you mean 'Adam'?"),
        ("seen_in: nowhere", "seen_in: recalled", "recalled figure is not a claim"),
        ("  smoke: {", "  smokes: {", "tier 'smoke' is required"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_remedy(project, old, new, says) -> None:
    write(project, old, new)
    problems = validate("toy")
    assert any(says in p.message for p in problems), "\n".join(map(str, problems))
    changed = new.split("\n")[-1][:20]
    near = [p for p in problems if says in p.message]
    lines = (project / "experiments" / "toy" / "spec.yaml").read_text().splitlines()
    at = [i for i, line in enumerate(lines, 1) if changed in line]
    assert min(abs(p.line - i) for p in near for i in at) <= 12


def test_a_misspelt_key_is_reported_on_its_own_line(project) -> None:
    write(project, "role: baseline", "rolle: baseline")
    unknown = next(p for p in validate("toy") if "unknown key" in p.message)
    assert unknown.line == line_of(project, "rolle")
    assert str(unknown).startswith(f"experiments/toy/spec.yaml:{unknown.line}: variants.bad.rolle")


def test_an_unknown_paper_suggests_the_nearest(project) -> None:
    with pytest.raises(catalog.UnknownPaper, match="did you mean toy"):
        catalog.load("tooy")
    with pytest.raises(catalog.UnknownPaper):
        catalog.load("../toy")


def test_on_and_from_are_keys_of_a_quantity() -> None:
    claim = Claim.model_validate(
        {
            "id": "a",
            "statement": "it holds",
            "quantity": {"difference": "m", "of": "x", "from": "y", "on": "d"},
            "criterion": {"greater_than": 0},
            "reported": {"text": "x is better"},
            "source": {"where": "Table 1", "seen_in": "arXiv"},
        }
    )
    assert isinstance(claim.quantity, Difference)
    assert [o.variant for o in claim.quantity.operands] == ["x", "y"]


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return yamlfile.load(path).data


def test_plain_yaml_is_read_as_its_author_meant(tmp_path) -> None:
    text = "on: yes\ndate: 2020-01-01\ntime: 1:30\nlr: 1e-3\nquoted: '1e-3'\nflag: true\nnone: null"
    assert read(tmp_path, text) == {
        "on": "yes",
        "date": "2020-01-01",
        "time": "1:30",
        "lr": 1e-3,
        "quoted": "1e-3",
        "flag": True,
        "none": None,
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(
            f"{b}: &{b} [{','.join(['*' + a] * 10)}]"
            for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        "[" * 5000 + "]" * 5000,
        "a: " + "9" * 5000,
        "a: .nan",
        "? [1, 2]\n: 3",
        "a: !!set {x}",
        "a: \x00",
        "a: [1, 2",
        "&x [*x]",
    ],
    ids=["bomb", "deep", "digits", "nan", "key", "set", "control", "open", "recursive"],
)
def test_hostile_yaml_is_refused(tmp_path, text) -> None:
    with pytest.raises(yamlfile.YamlError):
        read(tmp_path, text)


def test_a_line_is_known_for_every_value(tmp_path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a:\n  b:\n    - 1\n    - c: 2\n")
    source = yamlfile.load(path)
    assert source.line(["a", "b", 1, "c"]) == 4
    assert source.line(["a", "b", 7, "c"]) == 2


def test_criteria_need_exactly_one_key() -> None:
    assert Criterion(between=(1, 2)).kind == "between"
    for wrong in ({}, {"within": 1, "at_least": 2}, {"between": (2, 1)}, {"equivalent": 0}):
        with pytest.raises(ValueError):
            Criterion.model_validate(wrong)


def test_the_json_schema_covers_the_spec() -> None:
    schema = Paper.model_json_schema()
    assert {"claims", "variants", "tiers"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
