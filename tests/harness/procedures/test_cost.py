"""Counting bytes, operations and parameters against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.procedures.cost import Ledger, SavedBytes, flops, interleaved, parameters


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_ledger_counts_what_is_alive_and_the_most_that_was(device) -> None:
    known = torch.ones(1000, device=device)
    with Ledger([known]) as ledger:
        a = known + 1  # 4,000 bytes
        view = a[10:].view(-1)
        b = a.double()  # 8,000
        assert ledger.alive == 12_000
        del b
        assert ledger.alive == 4_000
        del a
        assert ledger.alive == 4_000, "the view holds it"
        del view
        known.add_(1)
        assert ledger.alive == 0, "what is known is not counted, changed in place or not"
    assert ledger.peak == 12_000


def test_ledger_sees_backward_passes_and_gradients() -> None:
    weight = torch.ones(50, 20, requires_grad=True)
    x = torch.ones(30, 50)
    with Ledger([weight, x]) as ledger:
        y = x @ weight  # 30 × 20
        y.backward(torch.ones_like(y))
        del y
        assert ledger.alive == 4 * 50 * 20, "the gradient stays"
    assert ledger.peak == 4 * (2 * 30 * 20 + 50 * 20)


def test_saved_bytes_counts_each_storage_once() -> None:
    x = torch.ones(100, requires_grad=True)
    with SavedBytes([x]) as saved:
        y = x.exp()  # saves its output
        z = y * y.view(-1)  # saves y twice
        z.sum()
    assert saved.bytes == 400


def test_flops_by_kind_in_both_passes() -> None:
    a, b = torch.ones(2, 3, 4), torch.ones(2, 4, 5, requires_grad=True)
    layer = nn.Linear(7, 11, bias=False)
    assert flops(lambda: (a @ b).sum().backward()) == {"bmm": 2 * (2 * 2 * 3 * 4 * 5)}
    assert flops(lambda: layer(torch.ones(6, 7))) == {"mm": 2 * 6 * 7 * 11}


def test_parameters_are_counted_without_memory_and_shared_ones_once() -> None:
    def make() -> nn.Module:
        model = nn.Sequential(
            nn.Linear(10**6, 10**6, bias=False), nn.Linear(10**6, 10**6, bias=False)
        )
        model[1].weight = model[0].weight
        return model

    assert parameters(make) == 10**12


def test_interleaved_takes_turns_and_gives_medians() -> None:
    order: list[str] = []
    found = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4, "one turn warms up"
    assert set(found) == {"a", "b"} and min(found.values()) >= 0
