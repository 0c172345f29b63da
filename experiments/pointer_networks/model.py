"""Sequence models over planar points: Ptr-Net and its two baselines (sections 2.1 to 2.3).

Tokens: 0 ends the output, token j = 1..n is the j-th point of the input. All three encode the
points with one LSTM and decode with another; the decoder is fed the coordinates of the point that
it chose last. They differ in how a decoder state d_i becomes scores over the n + 1 tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments.pointer_networks import recurrence
from experiments.pointer_networks.scores import additive

PAD = -1
INIT_RANGE = 0.08  # section 4.1: weights uniform in ±0.08


class State(NamedTuple):
    """What a decoder carries from step to step, each (B, H)."""

    hidden: Tensor
    cell: Tensor
    context: Tensor

    def pick(self, rows: Tensor) -> State:
        return State(*(part[rows] for part in self))


class Memory(NamedTuple):
    """What a decoder reads at every step.

    Attributes:
        inputs: what feeds back a token, (B, n + 1, D): the start symbol, then the points.
        encoded: encoder states, (B, n, H), or (B, n + 1, H) with a first one for the end.
        keys: W1 e_j for each of them.
        absent: tokens that are padding, (B, n + 1) bool.
    """

    inputs: Tensor
    encoded: Tensor
    keys: Tensor
    absent: Tensor

    def repeat(self, times: int) -> Memory:
        return Memory(*(part.repeat_interleave(times, dim=0) for part in self))


class EncoderDecoder(nn.Module):
    """What the three networks share: the two LSTMs and what the decoder is fed.

    Args:
        hidden: LSTM units H.
        embedding: width of a learned linear map of the points before the LSTMs; 0 feeds the raw
            coordinates, as the paper does.
        context: width of what the decoder is fed besides the point.
    """

    def __init__(self, hidden: int, embedding: int, context: int = 0) -> None:
        super().__init__()
        width = embedding or 2
        self.embed = nn.Linear(2, embedding) if embedding else nn.Identity()
        self.start = nn.Parameter(torch.empty(width))
        self.encoder = nn.LSTM(width, hidden, batch_first=True)
        self.decoder = nn.LSTM(width + context, hidden, batch_first=True)

    def reset_parameters(self) -> None:
        """Section 4.1: every weight uniform in ±0.08."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -INIT_RANGE, INIT_RANGE)

    def remember(self, inputs: Tensor, states: Tensor, absent: Tensor) -> Memory:
        """The decoder's memory of encoder states e_1..e_n, (B, n, H)."""
        return Memory(inputs, states, states[..., :0], absent)

    def predict(self, memory: Memory, decoded: Tensor, lasting: Tensor) -> Tensor:
        """Logits (B, m, n + 1) from decoder states d (B, m, H), of which ``lasting`` (B,) count."""
        raise NotImplementedError

    def encode(self, points: Tensor, lengths: Tensor | None = None) -> tuple[Memory, State]:
        """Read the points (B, n, 2), of which ``lengths`` (B,) count; all where it is None."""
        embedded = self.embed(points)
        start = embedded.new_zeros(len(points), self.encoder.hidden_size)
        counts = _counts(points, lengths)
        states, hidden, cell = recurrence.run(self.encoder, embedded, (start, start), counts)
        inputs = torch.cat([self.start.expand(len(points), 1, -1), embedded], dim=1)
        memory = self.remember(inputs, states, _absent(points, counts))
        return memory, State(hidden, cell, torch.zeros_like(hidden))

    def forward(self, points: Tensor, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, m, n + 1) of every output token, given those before it (teacher forcing).

        Those of padding mean nothing.

        Args:
            points: (B, n, 2).
            y: target tokens (B, m), padded with -1.
            lengths: points of each instance (B,).
        """
        memory, state = self.encode(points, lengths)
        inputs = take(memory.inputs, _shifted(y))
        lasting = (y != PAD).sum(dim=1)
        decoded = recurrence.hidden_states(
            self.decoder, inputs, (state.hidden, state.cell), lasting
        )
        return self.predict(memory, decoded, lasting)

    def step(self, memory: Memory, token: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, n + 1) of the token that follows ``token`` (B,); the first follows 0."""
        x = take(memory.inputs, token.unsqueeze(1))[:, 0]
        weights = recurrence.weights(self.decoder)
        hidden, cell = recurrence.cell(weights, x, state.hidden, state.cell)
        logits = self.predict(memory, hidden.unsqueeze(1), torch.ones_like(token))
        return logits[:, 0], State(hidden, cell, state.context)


class Seq2Seq(EncoderDecoder):
    """LSTM baseline (section 2.1): softmax(W d_i + b) over a fixed dictionary of ``points`` + 1
    tokens, so one number of points a model."""

    def __init__(self, points: int, hidden: int = 256, embedding: int = 0) -> None:
        super().__init__(hidden, embedding)
        self.output = nn.Linear(hidden, points + 1)
        self.reset_parameters()

    def predict(self, memory: Memory, decoded: Tensor, lasting: Tensor) -> Tensor:
        logits: Tensor = self.output(decoded)
        return logits


class Attention(nn.Module):
    """u_ij = v^T tanh(W1 e_j + W2 d_i) (equations 2 and 3)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(hidden, hidden, bias=False)
        self.w2 = nn.Linear(hidden, hidden, bias=False)
        self.v = nn.Parameter(torch.empty(hidden))

    def forward(self, keys: Tensor, decoded: Tensor, absent: Tensor, lasting: Tensor) -> Tensor:
        """u (B, m, n) from keys W1 e (B, n, H) and states d (B, m, H); -inf where absent.

        ``lasting`` (B,) of an instance's states count; what the others get means nothing.
        """
        queries = self.w2(decoded)
        if keys.device.type == "cpu":
            u = additive(keys, queries, self.v, (~absent).sum(dim=1), lasting)
        else:
            u = (keys.unsqueeze(1) + queries.unsqueeze(2)).tanh() @ self.v
        return u.masked_fill(absent.unsqueeze(1), -torch.inf)


class AttentionSeq2Seq(EncoderDecoder):
    """LSTM with content-based attention (section 2.2), over a fixed dictionary.

    d'_i = sum_j softmax_j(u_i) e_j; [d_i ; d'_i] makes the prediction, and d'_i is fed to the next
    step with the point.
    """

    def __init__(self, points: int, hidden: int = 256, embedding: int = 0) -> None:
        super().__init__(hidden, embedding, context=hidden)
        self.attention = Attention(hidden)
        self.output = nn.Linear(2 * hidden, points + 1)
        self.reset_parameters()

    def remember(self, inputs: Tensor, states: Tensor, absent: Tensor) -> Memory:
        return Memory(inputs, states, self.attention.w1(states), absent)

    def forward(self, points: Tensor, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        memory, state = self.encode(points, lengths)
        read, weights = [], recurrence.weights(self.decoder)
        for x in take(memory.inputs, _shifted(y)).unbind(dim=1):
            state = self._follow(memory, weights, x, state)
            read.append(torch.cat([state.hidden, state.context], dim=-1))
        logits: Tensor = self.output(torch.stack(read, dim=1))
        return logits

    def step(self, memory: Memory, token: Tensor, state: State) -> tuple[Tensor, State]:
        x = take(memory.inputs, token.unsqueeze(1))[:, 0]
        state = self._follow(memory, recurrence.weights(self.decoder), x, state)
        return self.output(torch.cat([state.hidden, state.context], dim=-1)), state

    def _follow(
        self, memory: Memory, weights: tuple[Tensor, Tensor], x: Tensor, state: State
    ) -> State:
        """The state after one more input x (B, D), and the context that it attends to."""
        fed = torch.cat([x, state.context], dim=-1)
        hidden, cell = recurrence.cell(weights, fed, state.hidden, state.cell)
        absent, one = memory.absent[:, 1:], torch.ones(len(x), dtype=torch.int64, device=x.device)
        shares = self.attention(memory.keys, hidden.unsqueeze(1), absent, one).softmax(dim=-1)
        return State(hidden, cell, (shares @ memory.encoded).squeeze(1))


class PointerNetwork(EncoderDecoder):
    """Ptr-Net (section 2.3): p(C_i = j | C_<i, P) = softmax_j(u_ij), for any number of points.

    A learned e_0 stands for the end of the output: pointing at it is token 0.
    """

    def __init__(self, hidden: int = 256, embedding: int = 0) -> None:
        super().__init__(hidden, embedding)
        self.attention = Attention(hidden)
        self.end = nn.Parameter(torch.empty(hidden))
        self.reset_parameters()

    def remember(self, inputs: Tensor, states: Tensor, absent: Tensor) -> Memory:
        encoded = torch.cat([self.end.expand(len(states), 1, -1), states], dim=1)
        return Memory(inputs, encoded, self.attention.w1(encoded), absent)

    def predict(self, memory: Memory, decoded: Tensor, lasting: Tensor) -> Tensor:
        u: Tensor = self.attention(memory.keys, decoded, memory.absent, lasting)
        return u


def take(values: Tensor, tokens: Tensor) -> Tensor:
    """Rows of ``values`` (B, n, D) at ``tokens`` (B, m): (B, m, D)."""
    return values.gather(1, tokens.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _shifted(y: Tensor) -> Tensor:
    """Decoder inputs for targets y (B, m): the start symbol (0), then the token before each."""
    before = y[:, :-1].clamp(min=0)
    return torch.cat([torch.zeros_like(y[:, :1]), before], dim=1)


def _counts(points: Tensor, lengths: Tensor | None) -> Tensor:
    """Points of each instance, (B,)."""
    if lengths is None:
        return torch.full((len(points),), points.shape[1], device=points.device)
    return lengths.to(points.device)


def _absent(points: Tensor, counts: Tensor) -> Tensor:
    position = torch.arange(points.shape[1] + 1, device=points.device).unsqueeze(0)
    return position > counts.unsqueeze(1)
