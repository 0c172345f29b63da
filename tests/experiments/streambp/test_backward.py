"""Streamed gradients are the exact ones, and a fault in them shows."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from experiments.streambp.backward import Method, backward, chunks
from experiments.streambp.model import ATTENTION, Decoder, allowed
from experiments.streambp.objectives import DPO, GRPO, IGNORED, SFT, next_tokens, whole
from experiments.streambp.procedure import Exactness, compare, objective
from harness.seeding import seed_all

TINY = {"vocabulary": 23, "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 24}
T = 37


@pytest.fixture
def batch():
    seed_all(0, "streambp")
    model = Decoder(**TINY, attention="plain").double()
    tokens = torch.randint(23, (4, T))
    valid = torch.arange(T) < torch.tensor([37, 30, 21, 37])[:, None]
    return model, tokens, valid


def gradients(model, *arguments):
    model.zero_grad()
    loss = backward(model, *arguments)
    return loss, {name: p.grad.clone() for name, p in model.named_parameters()}


def by_autograd(model, tokens, goal, valid):
    model.zero_grad()
    loss = whole(goal, model(tokens, valid))
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("goal", ["sft", "dpo", "grpo"])
@pytest.mark.parametrize(
    "method",
    [
        Method("checkpoint"),
        Method("mst", 7, 5),
        *(Method("stream", size, 5) for size in (1, 7, T, 100)),
        Method("stream", 7, 100),
        Method("stream", 7, 5, cached=False),
    ],
    ids=lambda m: f"{m.name}-{m.layer_chunk}-{m.head_chunk}-{m.cached}",
)
def test_gradients_are_those_of_autograd(batch, method, goal, attention) -> None:
    model, tokens, valid = batch
    for layer in model.layers:
        layer.attend = ATTENTION[attention]
    with torch.no_grad():
        goal = objective(goal, tokens, valid, model(tokens, valid))
    loss, true = by_autograd(model, tokens, goal, valid)
    again, found = gradients(model, tokens, goal, method, valid)
    torch.testing.assert_close(again, loss, rtol=1e-12, atol=1e-12)
    assert compare(found, true)["deviation"] < 1e-12


def test_gradients_are_added_to_what_is_there(batch) -> None:
    model, tokens, valid = batch
    for goal in ("sft", "dpo"):
        with torch.no_grad():
            sought = objective(goal, tokens, valid, model(tokens, valid))
        _, true = gradients(model, tokens, sought, Method("stream", 7, 5), valid)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        backward(model, tokens, sought, Method("stream", 7, 5), valid)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, true[name] + 1)


def test_a_tied_head_gets_both_gradients(batch) -> None:
    _, tokens, valid = batch
    model = Decoder(**TINY, tied=True).double()
    goal = SFT(next_tokens(tokens, valid))
    _, true = by_autograd(model, tokens, goal, valid)
    _, found = gradients(model, tokens, goal, Method("stream", 7, 5), valid)
    assert (
        compare(
            found | {"head.weight": found["embedding.weight"]},
            true | {"head.weight": true["embedding.weight"]},
        )["deviation"]
        < 1e-12
    )


@pytest.mark.parametrize("flaw", ["no-key-gradient", "top-left-mask"])
def test_flaws_show(batch, flaw) -> None:
    model, tokens, _ = batch
    goal = SFT(next_tokens(tokens))
    _, true = by_autograd(model, tokens, goal, None)
    _, found = gradients(model, tokens, goal, Method("stream", 7, 5, flaw=flaw))
    assert compare(found, true)["deviation"] > 0.1


def test_one_chunk_has_no_flaw(batch) -> None:
    model, tokens, _ = batch
    goal = SFT(next_tokens(tokens))
    _, true = by_autograd(model, tokens, goal, None)
    _, found = gradients(model, tokens, goal, Method("stream", T, 5, flaw="no-key-gradient"))
    assert compare(found, true)["deviation"] < 1e-12


def test_the_model_is_causal_and_blind_to_padding(batch) -> None:
    model, tokens, valid = batch
    logits = model(tokens, valid)
    later = tokens.clone()
    later[:, 20:] = (later[:, 20:] + 1) % 23
    torch.testing.assert_close(model(later, valid)[:, :20], logits[:, :20])
    padded = torch.where(valid, tokens, (tokens + 1) % 23)
    torch.testing.assert_close(model(padded, valid)[valid], logits[valid])
    assert not allowed(3, 2, 9, None, "cpu")[0, 0, 0, 3:].any(), "row 0 is token 2"


def test_the_decoder_is_qwen3() -> None:
    """With the same weights, transformers' own Qwen3 gives the same logits and gradients."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3Config(
        **{"vocab_size": 23, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4},
        **{"tie_word_embeddings": False, "attn_implementation": "eager"},
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    theirs = transformers.Qwen3ForCausalLM(config).double()
    for parameter in theirs.parameters():  # norms begin as ones, which would hide a mistake
        torch.nn.init.normal_(parameter, std=0.3)
    ours = Decoder(**TINY, head_size=4).double()
    names = {
        "embedding": "model.embed_tokens", "layers": "model.layers", "norm": "model.norm",
        "head": "lm_head", "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        **{part: f"self_attn.{part}_proj" for part in "qkvo"},
        **{f"{part}_norm": f"self_attn.{part}_norm" for part in "qk"},
        **{part: f"mlp.{part}_proj" for part in ("gate", "up", "down")},
    }  # fmt: skip
    state = theirs.state_dict()
    ours.load_state_dict(
        {
            name: state[".".join(names.get(step, step) for step in name.split("."))]
            for name in ours.state_dict()
        }
    )
    tokens = torch.randint(23, (2, 19))
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-5, atol=1e-5)


def test_cross_entropy_is_normalised_by_all_valid_labels_at_once(batch) -> None:
    model, tokens, valid = batch
    labels = next_tokens(tokens, valid)
    logits = model(tokens, valid)
    by_torch = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(whole(SFT(labels), logits), by_torch)
    assert (labels != IGNORED).sum() == 36 + 29 + 20 + 36
    assert labels[0, 3] == tokens[0, 4]


def test_preferences_and_policies_as_written_out(batch) -> None:
    """DPO and GRPO token by token, in plain Python."""
    model, tokens, valid = batch
    logits = model(tokens, valid).detach()
    labels = next_tokens(tokens, valid)
    old, reference = torch.randn(2, 4, T, dtype=torch.float64) - 3
    advantages = torch.tensor([1.0, -0.5, 2.0, -1.0])

    def log_p(b: int, t: int) -> float:
        row = logits[b, t].tolist()
        return row[labels[b, t]] - math.log(sum(map(math.exp, row)))

    places = [(b, t) for b in range(4) for t in range(T) if labels[b, t] != IGNORED]
    margin = {b: 0.0 for b in range(4)}
    gains = []
    for b, t in places:
        margin[b] += log_p(b, t) - float(reference[b, t])
        ratio, a = math.exp(log_p(b, t) - float(old[b, t])), float(advantages[b])
        gap = float(reference[b, t]) - log_p(b, t)
        kl = math.exp(gap) - gap - 1
        gains.append(min(ratio * a, min(max(ratio, 0.8), 1.2) * a) - 0.04 * kl)
    dpo = sum(math.log1p(math.exp(-0.1 * (margin[i] - margin[i + 1]))) for i in (0, 2)) / 2
    assert float(whole(DPO(labels, reference), logits)) == pytest.approx(dpo, rel=1e-9)
    grpo = GRPO(labels, old, reference, advantages)
    assert float(whole(grpo, logits)) == pytest.approx(-sum(gains) / len(gains), rel=1e-9)


def test_chunks_cover_once() -> None:
    assert [range(T)[c] for c in chunks(T, 10)] == [
        range(0, 10), range(10, 20), range(20, 30), range(30, 37)
    ]  # fmt: skip


def test_exactness_takes_the_worst_of_what_it_tries(trial) -> None:
    settings = {"model": {**TINY, "attention": "plain"}, "chunks": [1, 7]}
    found = Exactness(Method("stream", 7, 5), **settings).run(trial()).metrics
    assert found["deviation"] < 1e-9
    flawed = Exactness(Method("stream", 7, 5, flaw="no-key-gradient"), **settings)
    assert flawed.run(trial()).metrics["deviation"] > 0.1


def test_heads_must_fit_groups() -> None:
    with pytest.raises(ValueError, match="4 query heads are no multiple of 3"):
        Decoder(**{**TINY, "kv_heads": 3})
