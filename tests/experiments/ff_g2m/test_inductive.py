"""Nodes that training does not see: what is hidden of the graph, and where figures are taken."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("torch_geometric")

from baselines.gnn import GCN
from experiments.ff_g2m.data import Graph, block_model
from experiments.ff_g2m.model import Student
from experiments.ff_g2m.procedure import Distillation, _accuracies
from harness.procedures.base import Outcome, Trial

CHAIN = Graph(
    x=torch.arange(6.0)[:, None],
    y=torch.tensor([0, 1, 0, 1, 0, 1]),
    pairs=torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 4, 5]]),
    train=torch.tensor([0]),
    val=torch.tensor([5]),
    test=torch.tensor([1, 2, 3, 4]),
    unseen=torch.tensor([2]),
)
GRAPH = block_model(seed=0, nodes=200, unseen=0.2)


def run(graph: Graph, terms: list[str], epochs: int = 5) -> tuple[Outcome, list[Mapping]]:
    """A trial on a graph, and the figures of its epochs."""
    rows: list[Mapping] = []
    trial = Trial(
        seed=0,
        data=graph,
        model=lambda: Student(64, 4, hidden=16),
        device=torch.device("cpu"),
        workdir=Path(),
        report=lambda progress: rows.append(dict(progress.metrics)),
    )
    return Distillation(partial(GCN, hidden=16), terms, epochs=epochs).run(trial), rows


def test_hidden_nodes_go_with_their_edges_and_the_rest_is_numbered_anew():
    seen = CHAIN.seen()
    assert seen.x.flatten().tolist() == [0, 1, 3, 4, 5] and seen.y.tolist() == [0, 1, 1, 0, 1]
    assert seen.pairs.T.tolist() == [[0, 1], [2, 3], [0, 4]]
    assert (seen.train.tolist(), seen.val.tolist(), seen.test.tolist()) == ([0], [4], [1, 2, 3])
    assert CHAIN.observed.tolist() == [0, 1, 3, 4, 5]
    sparse = replace(CHAIN, x=CHAIN.x.to_sparse_csr()).seen()
    assert torch.equal(sparse.x.to_dense(), seen.x)


def test_without_hidden_nodes_training_sees_the_graph_itself():
    graph = block_model(seed=0, nodes=200)
    assert graph.seen() is graph and len(graph.unseen) == 0
    assert graph.observed.tolist() == list(range(200))


def test_a_share_of_the_test_nodes_is_hidden_anew_for_each_seed():
    plain = block_model(seed=0, nodes=200)
    hidden = plain.hiding(0.25, seed=0).unseen
    assert len(hidden) == len(hidden.unique()) == len(plain.test) // 4
    assert torch.isin(hidden, plain.test).all()
    assert torch.equal(plain.hiding(0.25, seed=0).unseen, hidden)
    assert not torch.equal(plain.hiding(0.25, seed=1).unseen, hidden)


@pytest.mark.parametrize("share", [-0.2, 0.001, 1.0])
def test_a_share_that_leaves_a_side_empty_is_refused(share):
    with pytest.raises(ValueError, match="cannot be hidden"):
        CHAIN.hiding(share, seed=0)


def without_hidden_edges(graph: Graph) -> Graph:
    touched = torch.isin(graph.pairs, graph.unseen).any(0)
    return replace(graph, pairs=graph.pairs[:, ~touched])


def test_training_depends_on_nothing_of_the_hidden_nodes():
    x, y = GRAPH.x.clone(), GRAPH.y.clone()
    x[GRAPH.unseen] = 9.0
    y[GRAPH.unseen] = (y[GRAPH.unseen] + 1) % 4
    changed = replace(without_hidden_edges(GRAPH), x=x, y=y)
    (before, curves), (after, same_curves) = (run(g, ["low", "high"]) for g in (GRAPH, changed))
    assert curves == same_curves and len(curves) == 10
    for name in ("observed_accuracy", "teacher_observed_accuracy", "val_accuracy"):
        assert before.metrics[name] == after.metrics[name], name
    assert before.metrics["unseen_accuracy"] != after.metrics["unseen_accuracy"]


def test_at_hidden_nodes_the_teacher_sees_their_edges_and_the_student_does_not():
    (whole, _), (lonely, _) = (
        run(g, ["node"], epochs=40) for g in (GRAPH, without_hidden_edges(GRAPH))
    )
    assert lonely.metrics["teacher_unseen_accuracy"] != whole.metrics["teacher_unseen_accuracy"]
    for name in ("teacher_observed_accuracy", "unseen_accuracy", "observed_accuracy"):
        assert lonely.metrics[name] == whole.metrics[name], name


def test_production_is_the_average_over_unseen_and_observed_nodes():
    metrics = run(GRAPH, ["node"])[0].metrics
    share = len(GRAPH.unseen) / len(GRAPH.test)
    assert share == 0.2
    for who in ("", "teacher_"):
        parts = [metrics[f"{who}{part}_accuracy"] for part in ("unseen", "observed")]
        expected = share * parts[0] + (1 - share) * parts[1]
        assert metrics[f"{who}accuracy"] == pytest.approx(expected)


def test_accuracies_are_those_of_test_nodes_alone():
    logits = torch.nn.functional.one_hot(CHAIN.y, 2).float()
    logits[CHAIN.train], logits[CHAIN.val] = 1 - logits[CHAIN.train], 1 - logits[CHAIN.val]
    logits[CHAIN.test[-1]] = logits[CHAIN.test[-1]].flip(0)
    assert _accuracies(logits, CHAIN) == {
        "accuracy": 0.75,
        "unseen_accuracy": 1.0,
        "observed_accuracy": pytest.approx(2 / 3),
    }


def test_agreement_with_the_teacher_is_asked_at_test_nodes_alone():
    logits = torch.nn.functional.one_hot(CHAIN.y, 2).float()
    teacher = logits.flip(1)
    teacher[CHAIN.test[:3]] = logits[CHAIN.test[:3]]
    kept = Distillation(partial(GCN, hidden=16), ["high"])._kept(logits, teacher, CHAIN)
    assert kept["agreement"] == 0.75


@pytest.mark.parametrize("terms", [[], ["node"]])
def test_the_parts_are_measured_where_nodes_are_hidden_and_nowhere_else(terms):
    arguments = {"terms": terms}
    everything, parts = Distillation.produces(arguments), Distillation.sometimes(arguments)
    assert set(run(GRAPH, terms, epochs=1)[0].metrics) == everything
    plain = block_model(seed=0, nodes=200)
    assert set(run(plain, terms, epochs=1)[0].metrics) == everything - parts
