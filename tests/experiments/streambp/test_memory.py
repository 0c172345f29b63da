"""Counted memory against counts by hand and on a real device; training on text."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.streambp import data, procedure
from experiments.streambp.backward import Method
from experiments.streambp.memory import Growth, LinearToy, Longest, Weights, make, peak, step
from experiments.streambp.model import Decoder
from experiments.streambp.procedure import Speed, TokenLoss, Training
from harness.loading.splits import Splits, Tensors
from harness.procedures.cost import Ledger
from harness.procedures.recipe import At

SMALL = {"vocabulary": 1000, "width": 32, "layers": 1, "heads": 4, "kv_heads": 2, "hidden": 48}


@pytest.mark.parametrize(
    "method",
    [Method("standard"), Method("checkpoint"), Method("stream", 16, 20)],
    ids=lambda m: m.name,
)
def test_the_meta_device_counts_what_a_real_one_uses(method) -> None:
    """Attention written out takes the same operations on both."""

    def small() -> Decoder:
        return Decoder(**SMALL, attention="plain")

    real = small().to(torch.bfloat16)
    run = step(real, 64, method)
    with Ledger([*real.parameters(), *(p.grad for p in real.parameters())]) as ledger:
        run()
    counted = peak(small, 64, method)
    assert ledger.peak == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("rows", [1000, 50])
def test_the_toy_by_hand(trial, rows) -> None:
    """X, W1, W2; X W1, its gradient, the output and its gradient; gradients of weights."""
    width, all_rows = 200, 1000
    d = all_rows // rows
    x, w, chunk = 4 * all_rows * width, 4 * width**2, 4 * rows * width
    standing = x + 2 * w
    gradients = 3 * w if d > 1 else w  # both, and one more that is added
    expected = (standing + gradients + 4 * chunk) / 1e9
    found = LinearToy(all_rows, width, [d, d]).run(trial()).metrics["toy_gb_streamed"]
    assert found.exact and found.value == pytest.approx(expected, rel=0.01)


def test_published_sizes(trial) -> None:
    """Parameters as the model cards give them: 8.19, 14.77 and 32.76 billion; 4.02 tied."""
    for size, billions in {"4B": 4.02, "8B": 8.19, "14B": 14.77, "32B": 32.76}.items():
        found = Weights().run(trial(data.qwen3(size))).metrics
        assert found["parameters"].value / 1e9 == pytest.approx(billions, abs=0.005)
        assert found["fixed_gib"].value == pytest.approx(4 * found["parameters"].value / 2**30)
    with pytest.raises(ValueError, match="no size '9B'"):
        data.qwen3("9B")


def test_layers_add_what_the_line_says(trial) -> None:
    """The longest sequence from one and two layers is that of the model itself."""
    dims = {**SMALL, "layers": 5, "vocabulary": 100}
    budget, chunk = 0.003, 200
    for method in (Method("checkpoint"), Method("stream", chunk, chunk)):
        procedure = Longest(method, budget, lengths=[400, 800, 1600])
        longest = procedure.run(trial(data.Configuration(dims))).metrics["longest"].value
        weights = 4 * sum(p.numel() for p in make(dims).parameters())
        fits = int(longest // chunk) * chunk
        for length in (fits, fits + chunk):
            used = peak(lambda: make(dims), length, method) + weights
            assert (used <= budget * 2**30) == (length == fits), (method.name, length)


def test_bytes_that_bend_are_refused(trial) -> None:
    method = Method("mst", 400, 400)  # a chunk of the whole at first, then of half
    with pytest.raises(ValueError, match="were expected"):
        Longest(method, 0.01, [200, 400, 800]).run(trial(data.Configuration(SMALL)))


def test_growth_tells_methods_apart(trial) -> None:
    def grown(method):
        return Growth(method, SMALL | {"vocabulary": 50}, [256, 512, 1024], [1, 2, 4]).run(trial())

    stream, whole = grown(Method("stream", 64, 512)), grown(Method("mst", 64, 512))
    assert stream.metrics["memory_growth"].value == pytest.approx(1, abs=0.01)
    assert whole.metrics["memory_growth"].value > 1.2, "its mask is a square"
    assert stream.series["score_flops"].y == pytest.approx([1, 3 / 4, 5 / 8])
    assert stream.metrics["score_flops_error"].value < 1e-9, "that is (1 + D) / (2 D)"
    assert stream.metrics["saved_by_layer_error"].value < 0.01
    assert stream.metrics["flops_over_checkpointing"].value < 1
    assert whole.metrics["flops_over_checkpointing"].value > 1


def test_speed_is_measured_at_every_length(trial) -> None:
    settings = SMALL | {"vocabulary": 50, "attention": "plain"}
    found = Speed(Method(), settings, [16, 32], divisions=3, repeats=1).run(trial())
    assert found.series["speedup"].x == [16, 32]
    assert found.metrics["speedup_longest"] == found.series["speedup"].y[-1] > 0


def test_a_speedup_says_how_many_times_longer_checkpointing_takes(trial, monkeypatch) -> None:
    timed = {"checkpoint": 6.0, "method": 2.0}
    monkeypatch.setattr(procedure, "interleaved", lambda runs, repeats: {n: timed[n] for n in runs})
    found = Speed(Method(), SMALL, [16, 32]).run(trial()).metrics
    assert found["speedup_shortest"] == found["speedup_longest"] == 3


def test_windows_follow_each_other_and_splits_are_apart(tmp_path) -> None:
    text = "".join(chr(97 + i % 7) for i in range(400)) + "XYZ" * 30
    (tmp_path / "input.txt").write_text(text)
    splits = data.tiny_shakespeare(tmp_path, length=16)
    assert splits.dims["vocabulary"] == len(set(text))
    train, test = splits.train.columns, splits.test.columns
    assert torch.equal(train["x"].flatten()[1:], train["y"].flatten()[:-1]), "copies of one text"
    kinds = sorted(set(text))
    read = "".join(kinds[i] for i in torch.cat([train["x"].flatten(), test["x"].flatten()]))
    cut = int(0.9 * len(text))
    assert read == text[: (cut - 1) // 16 * 16] + text[cut : cut + (len(text) - cut - 1) // 16 * 16]


def test_generated_text_has_order_to_learn() -> None:
    one, other = data.generated_text(0, 32, 4000), data.generated_text(1, 32, 4000)
    again = data.generated_text(0, 32, 4000)
    assert torch.equal(one.train.columns["x"], again.train.columns["x"]), "drawn twice alike"
    assert not torch.equal(one.train.columns["x"], other.train.columns["x"])
    assert int(one.train.columns["x"].max()) < one.dims["vocabulary"] == 27


def fitted(trial, splits, method):
    def model() -> Decoder:
        return Decoder(**SMALL | {"vocabulary": splits.dims["vocabulary"]})

    fit = Training(
        method,
        metrics={"token_loss": TokenLoss()},
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
        batch_size=8,
        epochs=1,
    )
    return fit.run(trial(splits, model)).series["token_loss"].y[-1]


def test_training_is_the_same_with_either_gradient_and_learns_only_order(trial) -> None:
    splits = data.generated_text(0, 32, 12_000)
    streamed, standard = (
        fitted(trial, splits, method) for method in (Method("stream", 10, 7), Method("standard"))
    )
    assert streamed == pytest.approx(standard, abs=1e-3)
    columns = splits.train.columns
    order = torch.randperm(columns["y"].numel(), generator=torch.Generator().manual_seed(0))
    shuffled = columns["y"].flatten()[order].view_as(columns["y"])
    test = splits.test.columns["y"]
    frequencies = torch.bincount(test.flatten(), minlength=27).double() / test.numel()
    chance = -sum(float(p) * math.log(p) for p in frequencies if p > 0)
    nonsense = Splits(Tensors(x=columns["x"], y=shuffled), splits.test, dims=splits.dims)
    assert standard < chance - 0.1
    assert fitted(trial, nonsense, Method("stream", 10, 7)) > chance - 0.02


def test_gathered_gradients_are_scaled_as_the_loss_is() -> None:
    model = Decoder(**SMALL | {"vocabulary": 50})
    fit = Training(Method("stream", 4, 4), loss=torch.nn.CrossEntropyLoss(), metrics={})
    tokens, found = torch.randint(50, (2, 10)), []
    batch, at = {"x": tokens[:, :-1], "y": tokens[:, 1:]}, At(0, 0, 0, 1, 1, torch.device("cpu"))
    for factor in (1.0, 3.0):
        model.zero_grad()
        (factor * fit.training_loss(model, batch, at)).backward()
        found.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(found[1], [3 * gradient for gradient in found[0]])


def test_token_loss_weighs_tokens_over_batches() -> None:
    meter = TokenLoss()
    logits, labels = torch.randn(5, 3, 7), torch.randint(3, (5, 7))
    meter.update(logits[:4], labels[:4])
    meter.update(logits[4:], labels[4:])
    torch.testing.assert_close(
        meter.compute().float(), torch.nn.functional.cross_entropy(logits, labels)
    )
