"""An LSTM over sequences of different lengths, with its gradient written out.

On a CPU, torch's own layer is fastest where sequences are about equally long. Where they are not,
it computes what nobody reads, and gives no cell state of an inner step. Here a step takes only
the sequences that have not ended: forward it is one product, [x_t, 1, h] W^T, backward another,
and the gradient of all weights is one product over all steps together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def run(
    lstm: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor], lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a layer over sequences of their own lengths.

    Args:
        lstm: one layer, one direction; its weights.
        inputs: (B, n, D).
        state: h and c before the first step, (B, H) each.
        lengths: steps of each sequence, (B,), at least one.

    Returns:
        Hidden states (B, n, H), which mean nothing after a sequence's end; h and c after its
        last step, (B, H).
    """
    if int(lengths.min()) == inputs.shape[1]:
        hidden, cell = (part.unsqueeze(0) for part in state)
        states, (hidden, cell) = lstm(inputs, (hidden, cell))
        return states, hidden[0], cell[0]
    if inputs.device.type != "cpu":
        return _packed(lstm, inputs, state, lengths)
    order = lengths.argsort(descending=True, stable=True)
    back = order.argsort()
    steps = torch.arange(int(lengths.max())).unsqueeze(1)
    running = (lengths > steps).sum(dim=1).tolist()
    sequence = inputs[order, : len(running)].transpose(0, 1)
    w_input, w_hidden, b_input, b_hidden = lstm.all_weights[0]
    weight = torch.cat([w_input, (b_input + b_hidden).unsqueeze(1), w_hidden], dim=1)
    sequence, *begin = (part.to(weight.dtype) for part in (sequence, *(p[order] for p in state)))
    with torch.autocast("cpu", enabled=False):
        states, hidden, cell = _Steps.apply(  # type: ignore[no-untyped-call]
            sequence, *begin, weight, running
        )
    rest = inputs.shape[1] - len(running)
    states = nn.functional.pad(states.transpose(0, 1)[back], (0, 0, 0, rest))
    return states, hidden[back], cell[back]


def hidden_states(
    lstm: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor], lengths: Tensor
) -> Tensor:
    """The hidden states of :func:`run` alone, for which torch's layer serves unless most steps
    are padding."""
    if inputs.device.type != "cpu" or 2 * int(lengths.sum()) > inputs.shape[0] * inputs.shape[1]:
        found: Tensor = lstm(inputs, (state[0].unsqueeze(0), state[1].unsqueeze(0)))[0]
        return found
    return run(lstm, inputs, state, lengths)[0]


def _packed(
    lstm: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor], lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same by torch's packed sequences, which are fast on a GPU and slow on a CPU."""
    packed = pack_padded_sequence(inputs, lengths.cpu(), True, enforce_sorted=False)
    found, (hidden, cell) = lstm(packed, (state[0].unsqueeze(0), state[1].unsqueeze(0)))
    padded, _ = pad_packed_sequence(found, True, total_length=inputs.shape[1])
    return padded, hidden[0], cell[0]


def weights(lstm: nn.LSTM) -> tuple[Tensor, Tensor]:
    """[W_ih, W_hh], (4H, D + H), and the sum of both biases, (4H,), for :func:`cell`."""
    w_input, w_hidden, b_input, b_hidden = lstm.all_weights[0]
    return torch.cat([w_input, w_hidden], dim=1), b_input + b_hidden


def cell(
    weights: tuple[Tensor, Tensor], x: Tensor, hidden: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of x (B, D) from h and c (B, H): the new h and c."""
    gates = nn.functional.linear(torch.cat([x, hidden], dim=-1), *weights)
    with torch.autocast("cpu", enabled=False):
        found: tuple[Tensor, Tensor] = _Gates.apply(  # type: ignore[no-untyped-call]
            gates.to(memory.dtype), memory
        )
    return found


class _Steps(Function):
    """All steps; sequences (n, B, D) by falling length, ``running[t]`` of them at step t."""

    @staticmethod
    def forward(
        ctx: Any,
        sequence: Tensor,
        hidden: Tensor,
        memory: Tensor,
        weight: Tensor,
        running: list[int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        width, units = sequence.shape[2] + 1, hidden.shape[1]
        total = sum(running)
        read = hidden.new_empty(total, width + units)  # [x_t, 1, h] of every step
        gates = hidden.new_empty(total, 4 * units)
        cells, squashed = hidden.new_empty(total, units), hidden.new_empty(total, units)
        states = hidden.new_zeros(len(running), *hidden.shape)
        last_hidden, last_cell = hidden.clone(), memory.clone()
        row = 0
        for t, count in enumerate(running):
            rows = slice(row, row + count)
            read[rows, : width - 1] = sequence[t, :count]
            read[rows, width - 1] = 1
            read[rows, width:] = last_hidden[:count]
            cells[rows] = last_cell[:count]
            _forward(
                torch.mm(read[rows], weight.T, out=gates[rows]),
                cells[rows],
                last_cell[:count],
                squashed[rows],
                last_hidden[:count],
            )
            states[t, :count] = last_hidden[:count]
            row += count
        ctx.save_for_backward(read, gates, cells, squashed, weight)
        ctx.running, ctx.width, ctx.batch = running, width, len(hidden)
        return states, last_hidden, last_cell

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_hidden, of_cell = grads
        read, gates, cells, squashed, weight = ctx.saved_tensors
        of_hidden, of_cell = of_hidden.clone(), of_cell.clone()
        of_gates = torch.empty_like(gates)
        of_read = torch.empty_like(read)
        of_inputs = of_states.new_zeros(len(ctx.running), ctx.batch, ctx.width - 1)
        row = len(read)
        for t in reversed(range(len(ctx.running))):
            count = ctx.running[t]
            row -= count
            rows = slice(row, row + count)
            of_hidden[:count] += of_states[t, :count]
            _backward(
                gates[rows],
                cells[rows],
                squashed[rows],
                of_hidden[:count],
                of_cell[:count],
                of_gates[rows],
            )
            torch.mm(of_gates[rows], weight, out=of_read[rows])
            of_hidden[:count] = of_read[rows, ctx.width :]
            of_inputs[t, :count] = of_read[rows, : ctx.width - 1]
        of_weight = of_gates.T @ read
        return of_inputs, of_hidden, of_cell, of_weight, None


class _Gates(Function):
    """h and c (B, H) from the gates before their non-linearities, (B, 4H), and the c before."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        gates, cell = gates.clone(), memory.clone()
        squashed, hidden = torch.empty_like(memory), torch.empty_like(memory)
        _forward(gates, memory, cell, squashed, hidden)
        ctx.save_for_backward(gates, memory, squashed)
        return hidden, cell

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gates, memory, squashed = ctx.saved_tensors
        of_cell, of_gates = grads[1].clone(), torch.empty_like(gates)
        _backward(gates, memory, squashed, grads[0], of_cell, of_gates)
        return of_gates, of_cell


def _forward(gates: Tensor, before: Tensor, cell: Tensor, squashed: Tensor, hidden: Tensor) -> None:
    """Put the gates through their non-linearities, in place, and fill c, tanh c and h."""
    units = before.shape[1]
    gates[:, : 2 * units].sigmoid_()
    gates[:, 2 * units : 3 * units].tanh_()
    gates[:, 3 * units :].sigmoid_()
    i, f, g, o = gates.chunk(4, dim=1)
    torch.mul(f, before, out=cell).addcmul_(i, g)
    torch.tanh(cell, out=squashed)
    torch.mul(o, squashed, out=hidden)


def _backward(
    gates: Tensor,
    before: Tensor,
    squashed: Tensor,
    of_hidden: Tensor,
    of_cell: Tensor,
    of_gates: Tensor,
) -> None:
    """Fill the gradient of the gates, and turn that of c into that of the c before, in place."""
    i, f, g, o = gates.chunk(4, dim=1)
    of_i, of_f, of_g, of_o = of_gates.chunk(4, dim=1)
    sigmoid_backward(of_hidden * squashed, o, grad_input=of_o)
    of_cell += torch.ops.aten.tanh_backward(of_hidden * o, squashed)
    sigmoid_backward(of_cell * g, i, grad_input=of_i)
    sigmoid_backward(of_cell * before, f, grad_input=of_f)
    tanh_backward(of_cell * i, g, grad_input=of_g)
    of_cell *= f
