"""What the fork server imports once, so that no worker has to.

The server ends with the process that started it, and not before: a signal to the whole process
group (a closed terminal, a shutdown) must leave the workers their time to save their state.
"""

import signal

import jsonargparse  # noqa: F401
import lightning  # noqa: F401
import torch  # noqa: F401
import torchmetrics  # noqa: F401

import harness.procedures.fit
import harness.runner  # noqa: F401

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
