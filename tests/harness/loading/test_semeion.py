"""Semeion's text format."""

from pathlib import Path

import pytest

from harness.loading.readers import BadFormat
from harness.loading.semeion import read_semeion


def row(digit: int, ink: int, values: int = 256) -> str:
    pixels = ["1.0000" if pixel == ink else "0.0000" for pixel in range(values)]
    return " ".join(pixels + [str(int(k == digit)) for k in range(10)]) + " "


def test_pixels_and_digits_are_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "semeion.data").write_bytes(f"{row(7, 17)}\r\n{row(0, 255)}\r\n".encode())
    images, digits = read_semeion(tmp_path)
    assert images.shape == (2, 16, 16) and digits.tolist() == [7, 0]
    assert images.sum() == 2 and images[0, 1, 1] == 1 and images[1, 15, 15] == 1


@pytest.mark.parametrize(
    "text", [row(3, 0, values=255), row(3, 0).replace("1.0000", "2.0000"), row(11, 0), "ink"]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "semeion.data").write_text(text)
    with pytest.raises(BadFormat, match=r"semeion\.data"):
        read_semeion(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"semeion\.data"):
        read_semeion(tmp_path)
