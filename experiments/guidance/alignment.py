"""Representational alignment (Section 3): linear CKA, and which layers are aligned with which.

A guide's activations enter by their Gram matrix alone. As the guide is frozen, that of a whole
training set can be made once, and a batch's is cut out of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

# Layers whose outputs are compared, as in the released code: what comes before an activation.
LAYERS = (
    *(nn.Conv2d, nn.Linear, nn.AdaptiveAvgPool2d, nn.RNN, nn.LSTM, nn.LayerNorm),
    *(nn.TransformerDecoderLayer, nn.MultiheadAttention),
)
TINY = 1e-12  # activations that do not vary over the batch are aligned with nothing


def gram(activations: Tensor) -> Tensor:
    """Inner products (n, n) of n examples' activations (n, …), centred over the examples."""
    flat = activations.flatten(1)
    flat = flat - flat.mean(0)
    return flat @ flat.T


def centred(kernel: Tensor) -> Tensor:
    """H K H with H = I - 1 1ᵀ / n, of symmetric matrices (…, n, n)."""
    mean = kernel.mean(-1, keepdim=True)
    return kernel - mean - mean.mT + kernel.mean((-2, -1), keepdim=True)


def cka(one: Tensor, other: Tensor) -> Tensor:
    """tr(K L) / √(tr(K K) tr(L L)) of centred matrices (…, n, n); shape (…), in [0, 1].

    HSIC(K, L) = tr(HKH HLH); the normalisation by n is the same above and below.
    """
    product = (one * other).sum((-2, -1))
    norms = torch.linalg.matrix_norm(one) * torch.linalg.matrix_norm(other)
    value: Tensor = product / norms.clamp_min(TINY)
    return value


def pairs(guide: int, target: int) -> list[tuple[int, int]]:
    """Which of ``guide`` layers is aligned with which of ``target`` layers.

    Layers are spread evenly, first to first and last to last. Where several of the guide fall on
    one of the target, the last of them counts, as in the released code.

    Raises:
        ValueError: one of the networks has no layer to align.
    """
    if guide < 1 or target < 1:
        raise ValueError(f"{guide} layers of the guide and {target} of the target: none to align")
    step = (target - 1) / (guide - 1) if guide > 1 else 1.0
    onto = {min(round(index * step), target - 1): index for index in range(guide)}
    return [(index, place) for place, index in onto.items()]


def recorded(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The model's output, and its layers' outputs (batch, …) in the order of their calls.

    The last one recorded, the logits, is left out.
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, tuple) and not isinstance(output, PackedSequence):
            output = output[0]  # without attention weights and final states
        if isinstance(output, PackedSequence):
            steps = x.shape[1]  # as long in every batch, whatever its longest sequence
            output = pad_packed_sequence(output, batch_first=True, total_length=steps)[0]
        if isinstance(output, Tensor):
            found.append(output)

    layers = [module for module in model.modules() if type(module) in LAYERS]
    hooks = [module.register_forward_hook(keep) for module in layers]
    try:
        output: Tensor = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return output, found[:-1]


def aligned(activations: Tensor, kernel: Tensor) -> Tensor:
    """CKA of activations (n, …) with a centred matrix (n, n), by the cheaper of two forms.

    tr(X Xᵀ L) = Σ X ∘ (L X), and the norms of X Xᵀ and Xᵀ X are the same: where there are fewer
    features than examples, no n x n matrix of the activations is made.
    """
    flat = activations.flatten(1).float()
    flat = flat - flat.mean(0)
    if flat.shape[1] >= len(flat):
        return cka(flat @ flat.T, kernel)
    norms = torch.linalg.matrix_norm(flat.T @ flat) * torch.linalg.matrix_norm(kernel)
    value: Tensor = (flat * (kernel @ flat)).sum() / norms.clamp_min(TINY)
    return value


def similarities(target: Sequence[Tensor], kernels: Tensor) -> Tensor:
    """CKA of each pair of layers: shape (pairs,).

    Args:
        target: activations (batch, …) of the target's layer of each pair.
        kernels: Gram matrices (pairs, batch, batch) of the guide's, centred or not.
    """
    fixed = centred(kernels)
    return torch.stack([aligned(mine, fixed[index]) for index, mine in enumerate(target)])
