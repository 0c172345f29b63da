"""Several processes for one trial, as Lightning's distributed strategies want them.

Lightning would start the other ranks by running this program's command line again; here a worker
forks them, before it has data, threads or a device in use. Where several nodes share a trial, the
same run is started on each of them, with the variables that torchrun and Lightning use:
``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from harness.engines.kernel import die_with_parent

NEEDED = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def node_rank() -> int:
    """Which of the nodes that share the trials this is."""
    return int(os.environ.get("NODE_RANK", "0"))


def unmet(fabric: Mapping[str, Any]) -> str:
    """What is missing for several nodes to find each other; empty if nothing is."""
    if fabric.get("num_nodes", 1) <= 1 or all(name in os.environ for name in NEEDED):
        return ""
    return f"nodes that share a trial find each other by {', '.join(NEEDED)}: set these on each"


def problem(
    procedures: Mapping[str, str],
    accelerator: str,
    fabric: Mapping[str, Any],
    packages: Sequence[str] = (),
) -> str:
    """What this machine, Lightning or a procedure has to say against these settings.

    Args:
        procedures: class path of each variant's procedure.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        fabric: arguments of Lightning's Fabric, which is built once.
        packages: the paper's own.

    Returns:
        A sentence; empty if every trial can be begun so.
    """
    import inspect

    import torch
    from lightning.fabric import Fabric

    from harness.specs.build import declaring, import_callable

    if accelerator != "auto":
        try:
            torch.empty(1, device=accelerator)
        except (RuntimeError, AssertionError) as error:
            return f"--accelerator {accelerator}: {str(error).splitlines()[0]}"
    for variant, class_path in procedures.items() if fabric else ():
        with declaring(packages):
            known = inspect.signature(import_callable(class_path)).parameters
        if "fabric" not in known:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in fabric)
            return f"{class_path}, which runs {variant}, has no settings for {flags}"
    try:
        Fabric(accelerator=accelerator, **{"devices": 1, **fabric})
    except Exception as error:  # Lightning's own, ValueError, ImportError, …
        return f"Lightning refuses {dict(fabric)}: {str(error).splitlines()[0]}"
    return ""


def spread(fabric: Mapping[str, Any]) -> int:
    """Fork so that there is a process for each device of this node.

    Args:
        fabric: arguments of Lightning's Fabric, of which ``devices`` and ``num_nodes`` count.

    Returns:
        The process's rank on this node; Lightning's variables are set accordingly.
    """
    devices, nodes = fabric.get("devices", 1), fabric.get("num_nodes", 1)
    count = devices if isinstance(devices, int) else 1
    if count <= 1 and nodes <= 1:
        return 0
    if nodes <= 1:
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        os.environ["MASTER_PORT"] = str(_free_port())
        os.environ["NODE_RANK"] = "0"
    rank = 0
    for other in range(1, count):
        if os.fork() == 0:
            die_with_parent()
            rank = other
            break
    os.environ["LOCAL_RANK"] = str(rank)
    return rank


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
