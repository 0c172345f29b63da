"""The list of planted faults fits the code, and the search tells noticed from not noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import faults, robustness

ROOT = Path(__file__).resolve().parents[2]
LISTED = [(area, f) for area, found in faults.read(ROOT / "tests/faults").items() for f in found]
CODE = "def double(x: int) -> int:\n    return 2 * x\n"
TEST = "from harness.sums import double\n\n\ndef test_three() -> None:\n    assert double(3) == 6\n"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project of one function and one test."""
    for name, text in {"harness/sums.py": CODE, "tests/test_sums.py": TEST}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def fault(by: str, replace: str = "2 * x", tests: str = "tests/test_sums.py") -> faults.Fault:
    return faults.Fault("harness/sums.py", replace, by, tests, "it doubles")


def found(project: Path, scratch: Path, *planted: faults.Fault) -> list[faults.Finding]:
    return list(faults.search(project, {"engine": list(planted)}, 1, scratch))


@pytest.mark.parametrize(("area", "listed"), LISTED)
def test_every_listed_fault_can_be_planted(area: str, listed: faults.Fault) -> None:
    listed.planted(ROOT)
    assert listed.replace != listed.by and listed.why
    assert all((ROOT / name.partition("::")[0]).exists() for name in listed.noticed_by.split())


def test_a_fault_is_noticed_or_not(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    scratch = tmp_path_factory.mktemp("copies")
    noticed, missed = found(small, scratch, fault("3 * x"), fault("x + x"))
    assert noticed.noticed == "tests/test_sums.py::test_three"
    assert missed.noticed == ""
    assert (small / "harness/sums.py").read_text() == CODE
    assert (scratch / "0/harness/sums.py").read_text() == CODE


def test_tests_that_always_fail_notice_nothing(small: Path, tmp_path: Path) -> None:
    (small / "tests/test_sums.py").write_text(TEST.replace("== 6", "== 7"))
    with pytest.raises(SystemExit, match="fails without a fault"):
        found(small, tmp_path / "copies", fault("3 * x"))


@pytest.mark.parametrize("wrong", [fault("1", replace="5 * x"), fault("1", replace="x")])
def test_a_text_that_is_not_there_once_is_refused(small: Path, wrong: faults.Fault) -> None:
    with pytest.raises(ValueError, match="times"):
        wrong.planted(small)


def test_what_is_no_python_is_refused(small: Path) -> None:
    with pytest.raises(SyntaxError):
        fault("2 *").planted(small)


def test_the_page_counts_and_names_what_was_missed(tmp_path: Path) -> None:
    noticed = faults.Finding("engine", "a.py", "one", "tests/test_a.py::test[x]")
    faults.save([noticed, faults.Finding("engine", "b.py", "two", "")], tmp_path)
    assert "::test[" not in (tmp_path / "engine.json").read_text()
    planted = robustness._read(tmp_path)
    text = robustness.page([], {"engine": planted[0]})
    assert "| engine | 2 | 1 | 50 % |" in text
    assert "- b.py: two" in text and "- a.py: one" not in text
