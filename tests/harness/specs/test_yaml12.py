"""Unquoted values are read as YAML 1.2 does, or refused with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.specs import yamlfile


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    return yamlfile.load(path).data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_0", "1_0"),
        ("1e3", 1000.0),
        ("1.0e-3", 0.001),
        ("1²e3", "1²e3"),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("True", True),
        ("~", None),
        ("2020-01-01", "2020-01-01"),
        ("'010'", "010"),
        ("!!str 10", "10"),
        ("0b1", "0b1"),
        ("-007", -7),
        ("1.", 1.0),
        (".5", 0.5),
        ("+12e3", 12000.0),
        ("1e-400", 0.0),
        ("tRUE", "tRUE"),
        ("", None),
        ("\u0663", "\u0663"),
        ("190:20:30", "190:20:30"),
        ("1e", "1e"),
        ("=", "="),
        ("!!int '12'", 12),
        ("!!float 3", 3.0),
    ],
)
def test_scalars(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"a: {text}\n")
    assert found == {"a": value} and type(found["a"]) is type(value)  # type: ignore[index]


@pytest.mark.parametrize("text", ["1e999", "12e4567", "-1e999", ".inf", ".nan", "9" * 500])
def test_numbers_that_are_none_are_refused_with_their_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(yamlfile.YamlError) as caught:
        read(tmp_path, f"b: 1\na: {text}\n")
    assert caught.value.line == 2


@pytest.mark.parametrize(
    "text", ["!!int 1.5", "!!bool yes", "!!timestamp 2020-01-01", "!mine 3", "!!binary aa"]
)
def test_a_tag_that_the_text_does_not_fit_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(yamlfile.YamlError, match="cannot be read") as caught:
        read(tmp_path, f"b: 1\na: {text}\n")
    assert caught.value.line == 2


def test_a_quoted_merge_key_is_a_key_like_any_other(tmp_path: Path) -> None:
    assert read(tmp_path, "'<<': 1\n") == {"<<": 1}


def test_merge_keys_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(yamlfile.YamlError, match="merge keys") as caught:
        read(tmp_path, "x: &x {a: 1}\ny:\n  <<: *x\n")
    assert caught.value.line == 3
