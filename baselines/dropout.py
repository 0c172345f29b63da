"""Dropout with a mask from uniform numbers, and of sparse features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero each entry of ``x`` with ``probability`` and scale the others to keep the mean.

    ``x`` may be a CSR matrix, whose zeros stay zero either way. On a CPU the mask comes from
    uniform numbers: torch's Bernoulli draws take longer there than a hidden layer's product.
    """
    if not training or probability == 0:
        return x
    if x.layout == torch.sparse_csr:
        values = dropout(x.values(), probability, training)
        return torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape)
    if x.device.type != "cpu":
        return F.dropout(x, probability, training)
    return x * (torch.rand_like(x) >= probability).to(x.dtype).div_(1 - probability)
