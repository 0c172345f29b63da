"""What the fork server imports once, so that no worker has to.

The server ends with the process that started it, and not before: a signal to the whole process
group (Ctrl-C, a closed terminal, a shutdown) must leave the workers their time to save their state.
"""

import gc
import importlib
import signal

MODULES = (
    "torch",
    "torchmetrics",
    "lightning",
    "jsonargparse",
    "harness.procedures.fit",
    "harness.engines.local",
    "harness.cli",
)

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)

# Imports leave next to no garbage, but looking for it takes a fifth of their time. And a worker
# that looks for it among what it shares with the server would touch, and so copy, every page of
# that: most of the cost of a short trial.
gc.disable()
for name in MODULES:
    importlib.import_module(name)

import harness.provenance  # noqa: E402
import harness.seeding  # noqa: E402
import harness.specs.build  # noqa: E402

# What every worker would do anew: look up versions and hardware, import what jsonargparse needs on
# its first use, read the sources that torch quotes where it is seeded.
harness.provenance.versions()
harness.provenance.hardware()
harness.specs.build.build({"class_path": "torch.nn.Identity"})
harness.seeding.seed_all(0, "preload")

gc.freeze()
gc.enable()
