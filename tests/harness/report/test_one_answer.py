"""Whoever asks for a claim's verdict, and wherever, gets the same one, and the same counts.

Asked are Python, JSON, CSV, terminal, page, leaderboard, its table of verdicts, and the summary in
W&B: of a toy, and of everything that is committed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from typer.testing import CliRunner

from harness import paths, tracking
from harness.cli import app
from harness.judging.results import verdicts
from harness.judging.verdicts import JUDGEMENTS, judge
from harness.records import RecordStore
from harness.report.exports import Format, export
from harness.report.leaderboard import collect
from harness.report.markdown import write_all
from harness.report.table import results
from harness.reproduction import Reproduction
from harness.specs import catalog
from harness.specs.schema import Paper

Row = tuple[str, str, str, str]  # claim, data set, tier, verdict
KINDS = "|".join(sorted(JUDGEMENTS, key=len, reverse=True))
STRENGTH = {"paper": 3, "reduced": 2, "stand-in": 1, None: 0}


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["results", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def rows_of(table: Iterable[dict[str, Any]]) -> list[Row]:
    return [(row["claim"], row["dataset"], row["tier"], row["verdict"]) for row in table]


def by_hand(rows: Iterable[dict[str, Any]]) -> Counter[str]:
    """The paper's own claims by verdict, counted from JSON: data sets must agree."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        if row["by"] == "paper":
            kinds.setdefault(row["claim"], set()).add(row["verdict"])
    return Counter(k.pop() if len(k) == 1 else "inconclusive" for k in kinds.values())


def said(text: str) -> Counter[str]:
    """What ``3 reproduced (1 direction only)  2 not run`` counts."""
    found = re.findall(rf"(\d+) ({KINDS})\b", text)
    return Counter({kind: int(n) for n, kind in found})


def terminal(key: str, *more: str) -> tuple[list[tuple[str, str]], Counter[str]]:
    """Claims with their verdicts line by line, and the sum below them."""
    *lines, total = shown(key, *more).strip().splitlines()
    cells = re.compile(rf"^ *(\S+) .*?  ({KINDS})(?: \([^)]*\))?(?:  |$)")
    return [(m[1], m[2]) for line in lines if (m := cells.match(line))], said(total)


def page(key: str) -> list[Row]:
    """The table at the top of the paper's page."""
    text = (paths.results() / f"{key}.md").read_text()
    table = text.partition("## Verdicts")[2].partition("\n###")[0]
    row = rf"^\| \[(.+?)\]\(.*?\) \| (.+?) \| .* \| (\w+) \| \*\*({KINDS})\*\*"
    return [(m[0], m[1], m[2], m[3]) for m in re.findall(row, table, re.MULTILINE)]


def leaderboard(key: str) -> Counter[str]:
    """The paper's line in the leaderboard, whose columns are the verdicts."""
    text = (paths.results() / "README.md").read_text()
    (line,) = [line for line in text.splitlines() if f"]({key}.md)" in line]
    cells = [cell.strip() for cell in line.strip("|").split(" | ")][2 : 2 + len(JUDGEMENTS)]
    return Counter({k: int(c.split()[0]) for k, c in zip(JUDGEMENTS, cells, strict=True) if c})


def headlines_of(rows: Iterable[Row]) -> list[tuple[str, str]]:
    kinds: dict[str, set[str]] = {}
    for claim, _, _, verdict in rows:
        kinds.setdefault(claim, set()).add(verdict)
    return [(c, k.pop() if len(k) == 1 else "inconclusive") for c, k in kinds.items()]


def summary(paper: Paper, tier: str, patch: pytest.MonkeyPatch) -> tuple[list[Row], Counter[str]]:
    """The table of claims that W&B gets after a run, and the counts beside it."""
    records = RecordStore.here().records(paper.key, tier)
    datasets = sorted({record.dataset for record in records})
    found = judge(paper, tier, records, datasets)
    run = SimpleNamespace(summary={}, log=MagicMock(), log_artifact=MagicMock(), finish=MagicMock())
    patch.setattr(tracking, "_open", lambda *arguments: run)
    patch.setattr("wandb.Artifact", MagicMock())
    patch.setattr("harness.report.markdown.draw", lambda results: {})
    tracking._summary_run(Reproduction(paper, tier, datasets, found, records, ran=1))
    table = run.log.call_args.args[0]["claims"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.data]
    counts = {kind: run.summary.get(kind, 0) for kind in JUDGEMENTS}
    return rows_of(rows), Counter(counts)


def everybody_agrees(key: str, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("COLUMNS", raising=False)  # the terminal's table is one line a row
    paper = catalog.load(key)
    answer = json.loads(shown(key, "--json"))
    rows, counts = rows_of(answer), by_hand(answer)
    assert {row[0] for row in rows} == {claim.id for claim in paper.claims}
    assert rows_of(vars(v) for v in verdicts(key)) == rows
    assert rows_of(results(key).to_dict("records")) == rows
    found = collect(paper, RecordStore.here())
    assert rows_of(csv.DictReader(io.StringIO(export([found], Format.csv).decode()))) == rows
    assert terminal(key) == ([(row[0], row[3]) for row in rows], counts)
    assert page(key) == rows
    assert leaderboard(key) == counts
    written = csv.DictReader((paths.results() / "verdicts.csv").open())
    lines = [(line["claim"], line["verdict"]) for line in written if line["paper"] == key]
    assert lines == headlines_of(rows)
    for tier in (one.tier for one in found.tiers):
        alone = json.loads(shown(key, "--json", "--tier", tier))
        assert summary(paper, tier, patch) == (rows_of(alone), by_hand(alone))
        assert terminal(key, "--tier", tier)[1] == by_hand(alone)


def test_of_a_toy_everybody_says_the_same(measured: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all([], warn=pytest.fail)
    everybody_agrees("toy", monkeypatch)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of what is committed, rendered now."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "records").symlink_to(paths.records())
    with paths.results_in(folder):
        write_all([], warn=pytest.fail)
    return folder


@pytest.mark.parametrize("key", catalog.paper_keys())
def test_of_what_is_committed_everybody_says_the_same(
    rendered: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_RESULTS", str(rendered))
    everybody_agrees(key, monkeypatch)


@pytest.mark.parametrize("key", catalog.paper_keys())
def test_the_strongest_evidence_of_all_tiers_decides(key: str) -> None:
    """Whatever was judged at any tier is in what counts, or weaker than that."""
    paper, store = catalog.load(key), RecordStore.here()
    counting = {v.claim: v for v in verdicts(key)}
    for tier in paper.tiers:
        for row in judge(paper, tier, store.records(key, tier)):
            assert STRENGTH[row.evidence] <= STRENGTH[counting[row.claim].evidence], row.claim
