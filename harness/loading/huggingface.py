"""Hugging Face ``datasets``: tables in memory-mapped Arrow files, and files on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.places import cache

if TYPE_CHECKING:
    import datasets

_BUILDERS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
}


def table(files: Sequence[Path], **options: Any) -> datasets.Dataset:
    """Local Arrow, Parquet, CSV, JSON or text files as one memory-mapped table.

    Args:
        files: of one kind, told by the suffix.
        options: of the ``datasets`` builder, such as ``sep`` or ``column_names`` for CSV files.

    Returns:
        A ``datasets.Dataset``; its fingerprint depends on the files and the options, and a file
        is converted to Arrow only once.

    Raises:
        ValueError: for no files, files of several kinds, or an unknown suffix.
    """
    import datasets

    suffixes = {file.suffix for file in files}
    if len(suffixes) != 1:
        raise ValueError(f"expected files of one kind, got {sorted(suffixes) or 'none'}")
    suffix = suffixes.pop()
    names = [str(file) for file in files]
    if suffix == ".arrow":
        parts = [datasets.Dataset.from_file(name) for name in names]
        return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    if suffix not in _BUILDERS:
        raise ValueError(
            f"no reader for {suffix!r} files; there are .arrow, {', '.join(_BUILDERS)}"
        )
    if suffix == ".tsv":
        options = {"sep": "\t", **options}
    with _silent():
        return datasets.load_dataset(
            _BUILDERS[suffix],
            data_files=names,
            split="train",
            cache_dir=str(cache() / "arrow"),
            **options,
        )


def address(repository: str, revision: str, file: str) -> str:
    """Where the hub (or the one that ``HF_ENDPOINT`` names) serves a data set's file."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, file, repo_type="dataset", revision=revision)


@contextmanager
def _silent() -> Iterator[None]:
    """Without progress bars of ``datasets``."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
