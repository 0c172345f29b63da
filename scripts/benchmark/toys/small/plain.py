"""The loop that one writes without a harness; as a program, the sweep that one runs with it.

    python -m experiments.small.plain 0 1 2 3 --epochs 30

It makes the same steps on the same batches as ``Fit``, and ends in the same losses.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from harness.loading.splits import Splits, Tensors
from harness.seeding import derive, seed_all


def train(
    model: nn.Module, data: Splits, seed: int, epochs: int, batch_size: int, fused: bool = False
) -> tuple[float, float]:
    """Mean training loss of the last epoch, and the test accuracy after it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused or None)
    criterion = nn.CrossEntropyLoss()
    assert isinstance(data.train, Tensors) and isinstance(data.test, Tensors)
    x, y = data.train.columns["x"], data.train.columns["y"]
    x_test, y_test = data.test.columns["x"], data.test.columns["y"]
    mean = accuracy = 0.0
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(derive(seed, "shuffle", epoch))
        order = torch.randperm(len(x), generator=generator)
        batches = order.split(batch_size)  # type: ignore[no-untyped-call]
        total = torch.zeros(())
        model.train()
        for batch in batches:
            loss = criterion(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        mean = total.item() / len(batches)
        model.eval()
        with torch.inference_mode():
            hits = sum(
                (model(xs).argmax(1) == ys).sum().item()
                for xs, ys in zip(x_test.split(batch_size), y_test.split(batch_size), strict=True)  # type: ignore[no-untyped-call]
            )
        accuracy = hits / len(x_test)
    return mean, accuracy


def main() -> None:
    from experiments.small.parts import Net, clusters  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--epochs", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)  # more of them only get in each other's way in so small a network
    data = clusters()
    for seed in options.seeds:
        seed_all(seed, "model")
        loss, accuracy = train(Net(64, 10), data, seed, options.epochs, batch_size=64)
        print(f"seed {seed}: loss {loss:.6f}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
