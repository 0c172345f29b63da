"""What the fork server imports once, so that no worker has to.

The server ends with the process that started it, and not before: a signal to the whole process
group (a closed terminal, a shutdown) must leave the workers their time to save their state.
"""

import gc
import signal

import jsonargparse  # noqa: F401
import lightning  # noqa: F401
import torch  # noqa: F401
import torchmetrics  # noqa: F401

import harness.cli
import harness.engines.local
import harness.procedures.fit  # noqa: F401
from harness import build, provenance, seeding

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)

# What every worker would do anew: look up versions and hardware, import what jsonargparse needs on
# its first use, read the sources that torch quotes where it is seeded.
provenance.versions()
provenance.hardware()
build.build({"class_path": "torch.nn.Identity"})
seeding.seed_all(0, "preload")

# A worker that collects garbage would touch, and so copy, every page that it shares with the
# server: most of the cost of a short trial.
gc.collect()
gc.freeze()
