"""Hugging Face ``datasets``: tables in memory-mapped Arrow files, and files on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.download import CONNECT_SECONDS, DownloadFailed, Target, accept
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


def download_file(repository: str, revision: str, file: str, target: Target) -> None:
    """Download one file of a data set repository at a commit; checked like any download.

    Raises:
        DownloadFailed: when the hub does not serve the wanted file.
    """
    from huggingface_hub import hf_hub_download

    target.path.parent.mkdir(parents=True, exist_ok=True)
    folder = target.path.with_name(f".{target.path.name}.hub")
    address = f"{repository}/{file} on the Hugging Face hub"
    try:
        found = hf_hub_download(
            repository,
            file,
            repo_type="dataset",
            revision=revision,
            local_dir=folder,
            etag_timeout=CONNECT_SECONDS,
            tqdm_class=_silent_bar(),
        )
    except (OSError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise DownloadFailed(f"{address}: {first_line or type(error).__name__}") from error
    Path(found).replace(target.part)
    accept(address, target)


def _silent_bar() -> type[Any]:
    """A progress bar that shows nothing: what is shown is for the command line to decide."""
    from functools import partialmethod

    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    return type("SilentBar", (tqdm,), {"__init__": partialmethod(tqdm.__init__, disable=True)})


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
