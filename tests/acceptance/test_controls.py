"""A control takes something away: its figures are not those of what it is a control of."""

from __future__ import annotations

from collections import defaultdict

import pytest

from harness.records import RecordStore
from harness.specs import catalog

Seeds = dict[tuple[int, str], dict[str, float]]


def measured(key: str) -> dict[tuple[str, str], Seeds]:
    """Metrics by variant and dataset, then by seed and fold, of the committed ``cpu`` tier."""
    found: dict[tuple[str, str], Seeds] = defaultdict(dict)
    for record in RecordStore.here().records(key, "cpu"):
        figures = {name: value.value for name, value in record.metrics.items()}
        if figures:
            found[record.variant, record.dataset][record.seed, str(record.fold)] = figures
    return found


def idle(operand: Seeds, control: Seeds, metric: str) -> bool:
    """Whether every seed that both have gives the same figure."""
    pairs = [(operand[seed], control[seed]) for seed in operand.keys() & control.keys()]
    values = [(one[metric], two[metric]) for one, two in pairs if metric in one and metric in two]
    return bool(values) and all(one == two for one, two in values)


@pytest.mark.parametrize("key", catalog.paper_keys())
def test_no_control_gives_the_figures_of_its_partner(key: str) -> None:
    found = measured(key)
    for claim in catalog.load(key).claims:
        of = getattr(claim.quantity, "of", None)
        if claim.control is None or of is None or not of.variant:
            continue
        kind = type(claim.quantity).__name__.lower()
        metric = of.metric or str(getattr(claim.quantity, kind, ""))
        for variant, dataset in list(found):
            if variant == of.variant != claim.control.variant:
                control = found.get((claim.control.variant, dataset), {})
                assert not idle(found[variant, dataset], control, metric), (claim.id, dataset)


def test_an_idle_control_is_noticed() -> None:
    one = {(0, "{}"): {"accuracy": 0.5}, (1, "{}"): {"accuracy": 0.6}}
    assert idle(one, one, "accuracy")
    assert not idle(one, {**one, (1, "{}"): {"accuracy": 0.7}}, "accuracy")
    assert not idle(one, {(2, "{}"): {"accuracy": 0.5}}, "accuracy")
