"""The student: a perceptron on the features of single nodes, blind to the graph."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from baselines.dropout import dropout as drop


class Student(nn.Module):
    """Linear layers with ReLU, and dropout after each hidden one (the paper's MLP).

    Args:
        features: F, input features of a node.
        classes: C, outputs of a node.
        hidden: width of each hidden layer.
        layers: number of linear layers, at least 1.
        dropout: probability after each hidden layer.
    """

    def __init__(
        self, features: int, classes: int, hidden: int = 64, layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        widths = [features, *[hidden] * (layers - 1), classes]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C) of features ``x`` (N, F), dense or sparse CSR."""
        for layer in self.layers[:-1]:
            x = drop(layer(x).relu(), self.dropout, self.training)
        return self.layers[-1](x)  # type: ignore[no-any-return]
