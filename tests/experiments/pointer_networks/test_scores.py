import pytest
import torch
from torch import Tensor

from experiments.pointer_networks import scores
from experiments.pointer_networks.scores import additive

INPUTS = torch.tensor([4, 6, 2, 6, 3])
OUTPUTS = torch.tensor([3, 1, 2, 5, 3])


def drawn() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 6, 8), (5, 5, 8), (8,)]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


@pytest.mark.parametrize("block", [1, 300, 1 << 17])
def test_scores_and_gradients_are_those_of_the_equation(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "BLOCK", block)
    keys, queries, v = drawn()
    counts = (torch.arange(6) < INPUTS[:, None])[:, None] & (
        torch.arange(5) < OUTPUTS[:, None]
    ).unsqueeze(2)
    found = additive(keys, queries, v, INPUTS, OUTPUTS)
    expected = torch.einsum("h,bmnh->bmn", v, (keys[:, None] + queries[:, :, None]).tanh())
    torch.testing.assert_close(found[counts], expected[counts])
    assert torch.isfinite(found).all()
    weight = torch.arange(int(counts.sum()), dtype=torch.float64)
    of = [keys, queries, v]
    ours = torch.autograd.grad((found[counts] * weight).sum(), of)
    theirs = torch.autograd.grad((expected[counts] * weight).sum(), of)
    torch.testing.assert_close(ours, theirs)


def test_instances_of_one_size_need_no_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BLOCK", 500)
    keys, queries, v = drawn()
    found = additive(keys, queries, v, torch.full((5,), 6), torch.full((5,), 5))
    expected = torch.einsum("h,bmnh->bmn", v, (keys[:, None] + queries[:, :, None]).tanh())
    torch.testing.assert_close(found, expected)
    of = [keys, queries, v]
    ours, theirs = (torch.autograd.grad((u**2).sum(), of) for u in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_blocks_hold_every_instance_once_and_cut_it_to_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "BLOCK", 200)
    generator = torch.Generator().manual_seed(1)
    inputs, outputs = (torch.randint(1, 9, (40,), generator=generator) for _ in range(2))
    blocks = scores._blocks(inputs, outputs, units=4)
    assert sorted(i for rows, _, _ in blocks for i in torch.arange(40)[rows].tolist()) == list(
        range(40)
    )
    for rows, n, m in blocks:
        assert (n, m) == (inputs[rows].max(), outputs[rows].max())
        size = len(torch.arange(40)[rows])
        assert size == 1 or size * n * m * 4 <= 200
    computed = sum(len(torch.arange(40)[rows]) * n * m for rows, n, m in blocks)
    assert computed < 0.5 * 40 * 8 * 8, "padding is hardly computed"
