"""Specs, records and figures from people who mean no good, or did not look."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.judging.verdicts import judge
from harness.records import Record, Unreadable, read_record
from harness.report.rows import verdict_rows
from harness.specs import catalog, yamlfile
from harness.specs.build import BuildError, check, import_callable
from harness.specs.catalog import SpecError, UnknownPaper
from harness.specs.schema import Paper

TOY = Path(__file__).parent / "toy" / "spec.yaml"
fuzz = settings(max_examples=150, derandomize=True)

# What a spec may name


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "torch.utils.cpp_extension.load",
        "torch.nn.functional.relu",
        "torch.nn.modules.module.OrderedDict",
        "torchmetrics.functional.accuracy",
        "transformers.pipeline",
        "harness.cli.main",
        "harness.records.write_atomically",
        "harness.procedures.checkpoints.Path",
        "harness.data.fetching.Path",
        "experiments..parts.Net",
        "experiments.parts/../../x.Net",
        "experiments",
        "",
    ],
)
def test_only_parts_of_models_and_of_the_project_may_be_named(project, name) -> None:
    with pytest.raises(BuildError):
        import_callable(name)


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.CrossEntropyLoss",
        "torch.optim.lr_scheduler.OneCycleLR",
        "torchmetrics.classification.MulticlassAccuracy",
        "harness.procedures.fit.Fit",
        "experiments.toy.parts.digits",
    ],
)
def test_what_papers_need_may_be_named(project, name) -> None:
    assert callable(import_callable(name))


@pytest.mark.parametrize("bad", ["os.system", "antigravity.fly_map", "torch.hub.load"])
def test_arguments_cannot_smuggle_in_functions(project, bad, monkeypatch) -> None:
    """Where an argument is a callable, a text with dots would be imported."""
    fit = {"loss": {"class_path": "torch.nn.MSELoss"}, "metrics": {}}
    for value in (bad, {"class_path": bad}):
        for argument in ("optimizer", "schedule", "loss"):
            config = {"class_path": "harness.procedures.fit.Fit"}
            with pytest.raises(BuildError):
                check({**config, "init_args": {**fit, argument: value}})
    assert "antigravity" not in __import__("sys").modules


@pytest.mark.parametrize("key", ["../toy", "toy/../toy", "/etc", ".", "", "TOY", "toy\n", "\0"])
def test_a_paper_key_is_not_a_path(project, key) -> None:
    with pytest.raises(UnknownPaper):
        catalog.load(key)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["datasets"].update({"../../x": {"label": "x"}}),
        lambda s: s["variants"].update({"../x": {"label": "x", "role": "paper"}}),
        lambda s: s["tiers"].update({"a/b": {"description": "x", "datasets": ["theory"]}}),
        lambda s: s["tiers"].update({"..": {"description": "x", "datasets": ["theory"]}}),
        lambda s: s.update(key="../toy"),
        lambda s: s["claims"][0].update(id="../x"),
    ],
)
def test_names_that_become_paths_cannot_leave_their_folder(project, edit_spec, change) -> None:
    edit_spec(change)
    with pytest.raises(SpecError):
        catalog.load("toy")


# Files


def yaml_bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join(lines)


def read(text: bytes) -> Paper | None:
    """The paper in this text; ``None`` when it is refused as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy" / "spec.yaml"
        path.parent.mkdir()
        path.write_bytes(text)
        try:
            return catalog.read(path)[0]
        except SpecError as error:
            assert error.problems and all(str(p) for p in error.problems)
            return None


@pytest.mark.parametrize(
    "text",
    [
        yaml_bomb(),
        "[" * 100_000,
        "a: " * 2,
        "{" * 5000 + "}" * 5000,
        "- " * 5000,
        "!!python/object/apply:os.system ['true']",
        "a: &a [*a]",
        "key: " + "9" * 10_000,
        "key: 0x" + "f" * 10_000,
        "key: .nan",
        "key: 1e999",
        "? [a]\n: b",
        "<<: {a: b}",
        "key: \u0000",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin1"),
        "a: 2001-99-99",
        "%YAML 9.9\n---\nkey: x",
        "--- a\n--- b",
    ],
)
def test_a_hostile_file_is_refused_with_a_message(text) -> None:
    assert read(text.encode()) is None


@fuzz
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_spec_or_refused(raw: bytes) -> None:
    read(raw)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 0, 1e308, 5e-324, "", "..", "1e999", "${data.x}", "*", "1e9d"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


def places(value: object, where: tuple = ()) -> list[tuple]:
    """Where in nested data every value stands."""
    found = [where]
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        found += places(inner, (*where, key))
    return found


SPEC = yamlfile.load(TOY).data
PLACES = [where for where in places(SPEC) if where]


def replaced(where: tuple, value: object) -> dict:
    spec = json.loads(json.dumps(SPEC))
    inner = spec
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    return spec


@fuzz
@given(st.sampled_from(PLACES), VALUES)
@example(("tiers", "smoke", "timeout"), "1" * 400 + "d")
@example(("tiers", "smoke", "memory"), 10**400)
@example(("metrics", "score", "scale"), 10**400)
@example(("year",), 1e308)
@example(("tiers", "cpu", "datasets", 0), [])
@example(("variants", "wide", "like"), "wide")
def test_any_change_of_a_spec_is_valid_or_a_message(where, value) -> None:
    """Loaded, planned and shown, or refused; nothing else is raised."""
    from harness import plan
    from harness.specs.validate import _Checks

    paper = read(yaml.safe_dump(replaced(where, value)).encode())
    if paper is not None:
        source = yamlfile.YamlFile(TOY, SPEC, {})
        if not list(_Checks(paper, source).names()):
            for name in paper.tiers:
                slots = [d for slot in plan.slots(paper.tiers[name]) for d in slot if d != "real"]
                plan.plan(paper, name, slots, seeds=1)
        json.dumps(paper.model_dump(mode="json", by_alias=True), allow_nan=False)


RECORD = {
    "trial": "0" * 16,
    "paper": "toy",
    "tier": "smoke",
    "variant": "good",
    "dataset": "theory",
    "seed": 0,
    "protocol": "paper",
    "status": "done",
    "metrics": {"score": {"value": 1.0}},
    "series": {"curve": {"over": "width", "x": [1, 2], "y": [1, 2]}},
    "config": {"procedure": {"class_path": "a.b", "init_args": {}}},
    "provenance": {"code": "c", "data": "d"},
    "resources": {"started": "2020-01-01", "ended": "2020-01-01", "seconds": 1.0},
}


def as_record(raw: bytes) -> Record | Unreadable:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{'0' * 16}.json"
        path.write_bytes(raw)
        return read_record(path)


@fuzz
@given(st.binary(max_size=200) | VALUES.map(lambda v: json.dumps(v).encode()))
@example(b"[" * 100_000)
@example(b'{"seed": ' + b"9" * 10_000 + b"}")
def test_any_bytes_are_a_record_or_unreadable(raw: bytes) -> None:
    assert isinstance(as_record(raw), Unreadable)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "where",
    [
        ("metrics", "score", "value"),
        ("series", "curve", "y"),
        ("resources", "seconds"),
        ("config", "procedure"),
        ("provenance", "hardware"),
    ],
)
def test_a_record_holds_finite_numbers(number, where) -> None:
    text = json.dumps(RECORD)
    assert isinstance(as_record(text.encode()), Record)
    inner = json.loads(text)
    target = inner
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = {"procedure": {"lr": "@"}, "hardware": {"x": "@"}, "y": [1, "@"]}.get(
        where[-1], "@"
    )
    assert isinstance(as_record(json.dumps(inner).replace('"@"', number).encode()), Unreadable)


@fuzz
@given(st.sampled_from([w for w in places(RECORD) if w]), VALUES)
def test_any_change_of_a_record_is_read_or_unreadable(where, value) -> None:
    changed = json.loads(json.dumps(RECORD))
    inner = changed
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    found = as_record(json.dumps(changed).encode())
    if isinstance(found, Record):
        json.dumps(found.model_dump(mode="json"), allow_nan=False)


# Figures

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, 1e308, -1e308, 5e-324]
)
MEASURED = st.fixed_dictionaries(
    {"value": NUMBERS},
    optional={"stderr": st.none() | NUMBERS.map(abs), "exact": st.booleans()},
)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5)
QUANTITIES = [
    {"value": "score", "of": "good"},
    {"difference": "score", "of": "good", "from": "bad"},
    {"ratio": "score", "of": "good", "to": "bad"},
    {"relative_change": "score", "of": "good", "from": "bad"},
    *({"slope": "curve", "of": "good", "axes": a} for a in ("linear", "log-log", "log-x", "log-y")),
    {"monotonic": "curve", "of": "good"},
]
CRITERIA = [
    {"within": 1.0},
    {"within_percent": 10},
    {"at_least": 0.0},
    {"less_than": 1.0},
    {"between": [0, 1]},
    {"equivalent": 0.1},
]
OVER = ["mean", "median", "best", "worst", {"share_above": 0.5}]


def verdicts(quantity, criterion, over, figures, curves):
    """Judge one claim on records with these figures: one list of seeds for each variant."""
    from harness import plan

    spec = json.loads(json.dumps(SPEC))
    claim = {**spec["claims"][0], "criterion": criterion, "reported": {"value": 1.0}}
    claim["quantity"] = {**quantity, "on": "theory", "over_seeds": over}
    spec["metrics"]["curve"] = {"label": "curve"}
    spec["claims"] = [claim]
    try:
        paper = Paper.model_validate(spec)
    except ValueError:
        return []
    records = []
    for trial in plan.plan(paper, "smoke", ["theory"]):
        seeds = figures[["good", "bad", "broken"].index(trial.variant)]
        if trial.seed < len(seeds):
            x, y = [p[0] for p in curves], [p[1] for p in curves]
            changes = {
                "trial": trial.id,
                "variant": trial.variant,
                "seed": trial.seed,
                "metrics": {"score": seeds[trial.seed]},
                "series": {"curve": {"over": "width", "x": x, "y": y}},
            }
            records.append(Record.model_validate(RECORD | changes))
    return judge(paper, "smoke", records)


@settings(fuzz, max_examples=300)
@given(
    st.sampled_from(QUANTITIES),
    st.sampled_from(CRITERIA),
    st.sampled_from(OVER),
    st.lists(st.lists(MEASURED, max_size=3), min_size=3, max_size=3),
    POINTS,
)
@example(QUANTITIES[2], CRITERIA[0], "mean", [[{"value": 0.0}], [{"value": 5e-324}], []], [])
@example(QUANTITIES[2], CRITERIA[0], "mean", [[{"value": 0.0}], [{"value": 1.4e154}], []], [])
@example(QUANTITIES[1], CRITERIA[0], "median", [[{"value": 0.0}], [{"value": 9e307}], []], [])
@example(QUANTITIES[2], CRITERIA[0], "mean", [[{"value": 1.0}], [{"value": 0.0}], []], [])
@example(QUANTITIES[4], CRITERIA[0], "mean", [[{"value": 1.0}], [], []], [(0.0, 1.0)] * 4)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_figures_give_a_verdict_of_finite_numbers(
    quantity, criterion, over, figures, curves
) -> None:
    for verdict in verdicts(quantity, criterion, over, figures, curves):
        for number in (verdict.measured, verdict.ci_low, verdict.ci_high):
            assert number is None or math.isfinite(number), verdict
    json.dumps(verdict_rows(verdicts(quantity, criterion, over, figures, curves)), allow_nan=False)
