"""Checkpoints at epoch ends, from which an interrupted trial goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning as L


class Checkpoints(L.Callback):
    """Keeps the checkpoint of the latest epoch end, and the one before it.

    Args:
        folder: where they go, as ``epoch-<n>.ckpt``.
        every: seconds that must have passed since the last one, so that short epochs do not
            spend their time on writing.
    """

    def __init__(self, folder: Path, every: float = 5.0) -> None:
        self.folder = folder
        self.every = every
        self._last = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if time.monotonic() - self._last < self.every:
            return
        self.save(trainer)
        self._last = time.monotonic()

    def save(self, trainer: L.Trainer) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"epoch-{trainer.current_epoch + 1:06d}.ckpt"
        temporary = target.with_suffix(".part")
        trainer.save_checkpoint(temporary)
        os.replace(temporary, target)
        for old in sorted(self.folder.glob("epoch-*.ckpt"))[:-2]:
            old.unlink()

    @staticmethod
    def latest(folder: Path) -> Path | None:
        """The newest checkpoint that can be read; unreadable ones are left out."""
        for path in sorted(folder.glob("epoch-*.ckpt"), reverse=True):
            if _readable(path):
                return path
        return None


def _readable(path: Path) -> bool:
    import torch

    try:
        checkpoint: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:  # a truncated archive raises many kinds
        return False
    return "curves" in checkpoint
