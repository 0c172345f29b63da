"""What changed between two states of the results: verdicts, claims, measurements.

Both sides are judged anew from their records by the code at hand, each with its own specs, so a
difference is one of specs or measurements and never of how they were once rendered.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import paths
from harness.judging.deciding import Headline
from harness.judging.rounding import interval
from harness.records import RecordStore
from harness.report.leaderboard import PaperResults, collect
from harness.report.tables import table, text
from harness.specs import catalog

ClaimKey = tuple[str, str]


class UnknownTree(LookupError):
    """Neither a folder of results nor a git revision."""


@dataclass(frozen=True)
class Interval:
    """A measured figure; ``low`` and ``high`` are ``None`` where it has no interval."""

    value: float
    low: float | None
    high: float | None

    def apart(self, other: Interval) -> bool:
        """Whether the two intervals have no point in common."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return False
        return self.low > other.high or self.high < other.low

    def __str__(self) -> str:
        return interval(self.value, self.low, self.high)


@dataclass
class State:
    """One side: each claim's headline, and every measured figure by paper, tier and name.

    ``unread`` are papers whose specs are not valid.
    """

    claims: dict[ClaimKey, Headline] = field(default_factory=dict)
    figures: dict[tuple[str, str, str], Interval] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def add(self, results: PaperResults) -> None:
        key = results.paper.key
        self.claims |= {(key, line.claim): line for line in results.headlines}
        self.problems += [f"{bad.path.name}: {bad.reason}" for bad in results.unreadable]
        for v in results.verdicts:
            if v.measured is not None:
                name = f"claim {v.claim} on {v.dataset}"
                self.figures[key, v.tier, name] = Interval(v.measured, v.ci_low, v.ci_high)
        for tier in results.tiers:
            for cell in tier.cells:
                found, name = cell.estimate, f"{cell.metric} of {cell.variant} on {cell.dataset}"
                self.figures[key, tier.tier, name] = Interval(found.value, found.low, found.high)


@dataclass(frozen=True)
class Changed:
    """A claim whose verdict differs; ``None`` on the side that does not have it."""

    paper: str
    claim: str
    before: Headline | None
    after: Headline | None

    @property
    def regressed(self) -> bool:
        """Reproduced before, and now not, or gone."""
        held = self.before is not None and self.before.verdict == "reproduced"
        return held and (self.after is None or self.after.verdict != "reproduced")


@dataclass(frozen=True)
class Moved:
    """A figure whose intervals before and after have nothing in common."""

    paper: str
    tier: str
    name: str
    before: Interval
    after: Interval


@dataclass(frozen=True)
class Comparison:
    """What changed from one state to another."""

    changed: list[Changed]
    moved: list[Moved]
    problems: list[str]

    @property
    def regressions(self) -> list[Changed]:
        return [change for change in self.changed if change.regressed]

    def markdown(self) -> str:
        """A report for people: a terminal, a job summary or an issue."""
        lines = [self._headline(), ""]
        parts = {
            "Regressions": self.regressions,
            "Other changes": [c for c in self.changed if not c.regressed],
        }
        for title, changes in parts.items():
            if changes:
                body = [[c.paper, c.claim, _shown(c.before), _shown(c.after)] for c in changes]
                lines += [f"## {title}", "", *_table(["paper", "claim", "before", "after"], body)]
        if self.moved:
            body = [[m.paper, m.tier, m.name, str(m.before), str(m.after)] for m in self.moved]
            head = ["paper", "tier", "figure", "before", "after"]
            lines += ["## Figures beyond their intervals", "", *_table(head, body)]
        if self.problems:
            lines += ["## Left out", "", *(f"- {text(problem)}" for problem in self.problems)]
        return "\n".join(lines).rstrip() + "\n"

    def _headline(self) -> str:
        counts = {
            "regressed": len(self.regressions),
            "other verdicts changed": len(self.changed) - len(self.regressions),
            "figures moved": len(self.moved),
        }
        return ", ".join(f"{n} {what}" for what, n in counts.items()) + "."


def _table(head: list[str], body: Iterable[list[str]]) -> list[str]:
    return [*table(head, [[text(cell) for cell in row] for row in body]), ""]


def _shown(line: Headline | None) -> str:
    if line is None:
        return "—"
    return f"{line.verdict} ({line.evidence or 'no evidence'}, {line.tier})"


def compare(old: str, new: str) -> Comparison:
    """Compare two states of the results.

    Args:
        old, new: a git revision, a project folder (with experiments/ and results/), or a folder of
            results or records, which is judged with this project's specs.

    A paper whose old spec is not valid any more is left out, which the comparison says.

    Raises:
        UnknownTree: one of them is none of these.
        SpecError: a spec in the new state cannot be read.
    """
    before = load(old, outdated=True)
    return difference(before, load(new, leave_out=before.unread))


def difference(old: State, new: State) -> Comparison:
    """What changed from one state to another, in the order of papers and claims."""
    changed = []
    for key in dict.fromkeys([*new.claims, *old.claims]):
        before, after = old.claims.get(key), new.claims.get(key)
        if (before and before.verdict) != (after and after.verdict):
            changed.append(Changed(*key, before, after))
    moved = [
        Moved(*key, before, new.figures[key])
        for key, before in old.figures.items()
        if key in new.figures and before.apart(new.figures[key])
    ]
    return Comparison(changed, moved, [*dict.fromkeys([*old.problems, *new.problems])])


def load(name: str, outdated: bool = False, leave_out: Collection[str] = ()) -> State:
    """Read and judge one side.

    Args:
        outdated: leave out papers whose spec is not valid.
        leave_out: also these papers.
    """
    state = State()
    with _tree(name) as (specs, records):
        for path in sorted(specs.glob("*/spec.yaml")):
            key = path.parent.name
            if key in leave_out:
                continue
            try:
                paper = catalog.read(path)[0]
            except catalog.SpecError as error:
                if not outdated:
                    raise
                state.unread.append(key)
                first = error.problems[0]
                state.problems.append(
                    f"{key}: its spec in {name} is of another time: {first.message}"
                )
                continue
            state.add(collect(paper, RecordStore(records)))
    return state


@contextmanager
def _tree(name: str) -> Iterator[tuple[Path, Path]]:
    """The folders of specs and of records behind a name."""
    folder = Path(name)
    if folder.is_dir():
        if (folder / "experiments").is_dir():
            yield folder / "experiments", folder / "results" / "records"
        else:
            within = folder / "records"
            yield paths.experiments(), within if within.is_dir() else folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        checkout = Path(temporary)
        _extract(name, checkout)
        yield checkout / "experiments", checkout / "results" / "records"


def _extract(revision: str, into: Path) -> None:
    """The specs and records of a git revision."""
    named = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if named is None:
        raise UnknownTree(f"{revision!r} is neither a folder nor a git revision")
    commit = named.decode().strip()
    present = (
        _git("ls-tree", "--name-only", commit, "--", "experiments", "results") or b""
    ).split()
    packed = _git("archive", "--format=tar", commit, "--", *(name.decode() for name in present))
    if present and packed:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(into, filter="data")


def _git(*arguments: str) -> bytes | None:
    """What git says in the project folder; ``None`` when it refuses or is not there."""
    command = ["git", "-C", str(paths.root()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
