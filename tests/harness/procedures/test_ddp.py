"""One trial on several devices measures what it does on one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch

from harness import paths
from harness.loading.splits import Tensors
from harness.plan import PlanError
from harness.procedures.batches import Batches
from harness.records import RecordStore
from harness.reproduction import Request, run

TOLERANCE = 1e-5  # relative: floating-point sums are taken in another order


def batches(rank: int, ranks: int, size: int = 10, training: bool = True) -> list[list[int]]:
    split = Tensors(x=torch.arange(23))
    order = (lambda: (1, 0)) if training else None
    return [b["x"].tolist() for b in Batches(split, size, order, shard=lambda: (rank, ranks))]


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_share_every_batch(ranks) -> None:
    whole = batches(0, 1)
    shares = [batches(rank, ranks) for rank in range(ranks)]
    assert all(len(share) == len(whole) for share in shares), "all make the same steps"
    for step, batch in enumerate(whole):
        dealt = [x for share in shares for x in share[step]]
        assert set(dealt) == set(batch)


def test_shares_weigh_as_many_examples_as_they_have() -> None:
    split = Tensors(x=torch.arange(22))
    shares = [Batches(split, 10, lambda: (1, 0), shard=lambda r=r: (r, 3)) for r in range(3)]
    assert [b.share(0) for b in shares] == pytest.approx([1.2, 0.9, 0.9])
    assert [b.share(2) for b in shares] == pytest.approx([1.5, 1.5, 0.0]), "none for the third"
    assert [len(batch["x"]) for batch in shares[2]] == [3, 3, 1], "but it makes the step"


def test_each_example_is_evaluated_once() -> None:
    dealt = [x for rank in range(4) for batch in batches(rank, 4, 11, False) for x in batch]
    assert sorted(dealt) == list(range(23))


@pytest.fixture
def without_noise(unruly, edit_unruly):
    """No dropout: each rank draws its own. 100 examples in batches of 16, the last of 4."""
    parts = unruly / "experiments" / "unruly" / "parts.py"
    parts.write_text(parts.read_text().replace("nn.Dropout(0.1), ", ""))

    def change(spec: dict) -> None:
        spec["variants"]["net"]["procedure"]["init_args"].update(batch_size=32, eval_every=2)

    edit_unruly(change)
    return unruly


def test_two_processes_measure_what_one_does(without_noise) -> None:
    request = {"seeds": 1, "variants": ["net"]}
    fabric = {"devices": 2, "strategy": "ddp"}
    one = run(Request("unruly", "cpu", **request))
    two = run(Request("unruly", "cpu", **request, fabric=fabric))
    assert not one.failed and not two.failed
    records = {r.trial: r for r in RecordStore(paths.records()).records()}
    assert len(records) == 2, "trials of their own, and neither is mistaken for the other"
    shared = [r for r in records.values() if "fabric" in r.config["procedure"]["init_args"]]
    (alone,) = [r for r in records.values() if r not in shared]
    log = (paths.runs() / "unruly" / "cpu" / shared[0].trial / "log.txt").read_text()
    assert "MEMBER: 1/2" in log and "MEMBER: 2/2" in log, "there were two processes"
    for name, series in alone.series.items():
        assert shared[0].series[name].y == pytest.approx(series.y, rel=TOLERANCE), name
    assert two.verdicts == run(Request("unruly", "cpu", **request, fabric=fabric)).verdicts


NODE = """
import sys
from harness.reproduction import Request, run
fabric = {"devices": 1, "num_nodes": 2, "strategy": "ddp"}
outcome = run(Request("unruly", "cpu", seeds=1, variants=["net"], fabric=fabric))
sys.exit(len(outcome.failed))
"""


def test_two_nodes_measure_what_one_does(without_noise) -> None:
    """Each runs the same command, with a results folder of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    nodes = []
    for rank in ("0", "1"):
        own = {"HARNESS_RESULTS": f"{without_noise}/{rank}", "NODE_RANK": rank}
        command = [sys.executable, "-c", NODE]
        nodes.append(subprocess.Popen(command, env=os.environ | meeting | own))
    assert [node.wait(120) for node in nodes] == [0, 0]
    found = [RecordStore(without_noise / rank / "records").records()[0] for rank in ("0", "1")]
    assert found[0].trial == found[1].trial and found[0].metrics == found[1].metrics
    alone = run(Request("unruly", "cpu", seeds=1, variants=["net"])).records[0]
    for name, series in alone.series.items():
        assert found[0].series[name].y == pytest.approx(series.y, rel=TOLERANCE), name


def test_nodes_have_to_know_each_other(unruly, monkeypatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PlanError, match="MASTER_ADDR, MASTER_PORT, NODE_RANK"):
        run(Request("unruly", "cpu", seeds=1, variants=["net"], fabric={"num_nodes": 2}))


def test_a_procedure_without_fabric_says_so(unruly) -> None:
    with pytest.raises(PlanError, match="no settings for --devices"):
        run(Request("unruly", "smoke", seeds=1, variants=["well"], fabric={"devices": 2}))
