"""What the fork server imports once, so that no worker has to."""

import jsonargparse  # noqa: F401
import lightning  # noqa: F401
import torch  # noqa: F401
import torchmetrics  # noqa: F401

import harness.procedures.fit
import harness.runner  # noqa: F401
