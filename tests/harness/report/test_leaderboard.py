"""What the reports show: headlines, measured cells, curves, cost, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness import paths
from harness.judging.deciding import headline, strongest_first
from harness.judging.verdicts import Verdict
from harness.records import Record, RecordStore, Series
from harness.report.curves import MAX_POINTS, curve
from harness.report.leaderboard import collect, strays
from harness.specs import catalog


def verdict(kind, evidence, tier="cpu", dataset="d") -> Verdict:
    parts = {"statement": "s", "reason": "", "unit": "", "reported": None}
    rest = {"reported_text": "", "source": "", "evidence": evidence}
    return Verdict("p", "c", dataset=dataset, tier=tier, verdict=kind, **parts, **rest)


def test_a_headline_takes_the_strongest_evidence_whatever_weaker_evidence_says() -> None:
    rows = [
        verdict("not reproduced", "paper", "cpu"),
        verdict("reproduced", "reduced", "full"),
        verdict("reproduced", "stand-in", "cpu"),
    ]
    found = headline(rows)
    assert (found.verdict, found.evidence, found.tier) == ("not reproduced", "paper", "cpu")


def test_data_sets_of_equal_evidence_must_agree() -> None:
    agree = [verdict("reproduced", "reduced", dataset=d) for d in "ab"]
    assert headline(agree).verdict == "reproduced"
    mixed = [agree[0], verdict("not reproduced", "reduced", dataset="b")]
    assert headline(mixed).verdict == "inconclusive"


def test_a_weaker_tier_does_not_speak_against_a_stronger_one() -> None:
    rows = [verdict("reproduced", "reduced", "cpu"), verdict("inconclusive", "reduced", "smoke")]
    assert headline(rows).verdict == "reproduced"


def test_smoke_is_the_weakest_tier_and_full_the_strongest() -> None:
    assert strongest_first(["smoke", "other", "cpu", "full"]) == ["full", "cpu", "other", "smoke"]


def test_a_paper_without_records_claims_nothing(project) -> None:
    found = collect(catalog.load("toy"), RecordStore(paths.records()))
    assert found.tiers == ()
    assert {h.verdict for h in found.headlines} == {"not run"}
    assert found.evidence is None


def test_headlines_of_the_toy(measured) -> None:
    found = collect(catalog.load("toy"), RecordStore(paths.records()))
    said = {h.claim: (h.verdict, h.evidence, h.tier) for h in found.headlines}
    assert said == {
        "good-beats-bad": ("reproduced", "reduced", "smoke"),
        "count": ("inconclusive", "reduced", "smoke"),  # met, which decides nothing
        "net-accuracy": ("not comparable", "stand-in", "cpu"),
        "not-ours": ("not run", None, "cpu"),
    }
    assert sum(found.counts.values()) == 4


def test_cells_have_the_t_interval_of_their_seeds_in_the_metrics_unit(add) -> None:
    values = [0.81, 0.86, 0.79, 0.90]
    for seed, accuracy in enumerate(values):
        add("cpu", "net", "digits", seed, accuracy=accuracy)
    (tier,) = collect(catalog.load("toy"), RecordStore(paths.records())).tiers
    (cell,) = tier.cells
    low, high = stats.t.interval(0.95, 3, 100 * np.mean(values), 100 * stats.sem(values))
    assert cell.estimate.value == pytest.approx(100 * np.mean(values))
    assert (cell.estimate.low, cell.estimate.high) == pytest.approx((low, high))
    assert cell.evidence == "stand-in"


def test_records_of_earlier_settings_are_counted_and_left_out(measured, edit_spec) -> None:
    edit_spec(lambda spec: spec["variants"]["good"]["procedure"]["init_args"].update(level=9.0))
    found = collect(catalog.load("toy"), RecordStore(paths.records()))
    smoke = next(tier for tier in found.tiers if tier.tier == "smoke")
    assert smoke.left_out == 3
    assert not [cell for cell in smoke.cells if cell.variant == "good"]
    assert next(h for h in found.headlines if h.claim == "count").verdict == "not run"


def test_the_command_names_fewer_seeds_than_the_tier_has(add) -> None:
    add("full", "net", "real", 0, accuracy=0.9)
    (tier,) = collect(catalog.load("toy"), RecordStore(paths.records())).tiers
    assert tier.command == "make reproduce PAPER=toy TIER=full SEEDS=1"
    for seed in (1, 2):
        add("full", "net", "real", seed, accuracy=0.9)
    (tier,) = collect(catalog.load("toy"), RecordStore(paths.records())).tiers
    assert tier.command == "make reproduce PAPER=toy TIER=full"


def test_cost_sums_time_and_names_machines(measured) -> None:
    found = collect(catalog.load("toy"), RecordStore(paths.records()))
    cost = next(tier for tier in found.tiers if tier.tier == "smoke").cost
    assert (cost.done, cost.failed, cost.seeds, cost.seconds) == (9, 0, (3, 3), 540.0)
    assert cost.hardware == ("Some CPU, 1 thread",)
    assert (cost.first, cost.last) == ("2026-01-02", "2026-01-04")


def test_files_that_are_not_records_are_named_and_the_rest_is_judged(spoil) -> None:
    store = RecordStore(paths.records())
    found = collect(catalog.load("toy"), store)
    truncated, older, foreign, nobody = spoil
    assert {bad.path for bad in found.unreadable} == {truncated, older, foreign}
    assert [bad.path for bad in strays(store)] == [nobody]
    assert found.headlines[0].verdict == "reproduced"


def series(seed: int, y: list[float], x: list[float] | None = None, fold: int = 0) -> Record:
    points = Series(over="epoch", x=x or list(range(len(y))), y=y)
    return Record.model_construct(seed=seed, fold={"f": fold}, series={"m": points})


def test_a_curve_is_the_mean_over_seeds_with_its_t_interval() -> None:
    runs = np.array([[1.0, 2.0, 4.0], [2.0, 2.0, 5.0], [3.0, 2.0, 9.0]])
    line = curve("v", [series(i, list(run)) for i, run in enumerate(runs)], "m", scale=100.0)
    half = stats.t.ppf(0.975, 2) * stats.sem(runs, axis=0)
    np.testing.assert_allclose(line.y, 100 * runs.mean(0))
    np.testing.assert_allclose(line.low, 100 * (runs.mean(0) - half))
    np.testing.assert_allclose(line.high, 100 * (runs.mean(0) + half))
    assert line.seeds == 3


def test_folds_are_averaged_before_seeds_are_compared() -> None:
    records = [series(s, [10.0 * f, 1.0], fold=f) for s in (0, 1) for f in (0, 2)]
    line = curve("v", records, "m")
    assert (line.seeds, line.y, line.low) == (2, (10.0, 1.0), (10.0, 1.0))


def test_only_points_that_all_seeds_have_are_drawn() -> None:
    line = curve("v", [series(0, [1, 2, 3], [1, 2, 3]), series(1, [5, 7], [3, 2])], "m")
    assert (line.x, line.y) == ((2.0, 3.0), (4.5, 4.0))
    assert curve("v", [series(0, [1], [1]), series(1, [1], [2])], "m").x == ()


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    line = curve("v", [series(0, list(range(1500)))], "m")
    assert len(line.x) == MAX_POINTS
    assert (line.x[0], line.x[-1]) == (0.0, 1499.0)
    assert line.x == line.y
