"""Several processes for one trial, as Lightning's distributed strategies want them.

Lightning would start the other ranks by running this program's command line again; here a worker
forks them, before it has data, threads or a device in use.
"""

from __future__ import annotations

import os
import socket

from harness.engines.kernel import die_with_parent


def spread(count: int) -> int:
    """Fork so that there are ``count`` processes; each gets its rank, and Lightning's variables."""
    if count <= 1:
        return 0
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
