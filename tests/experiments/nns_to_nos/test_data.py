import math

import pytest
import torch

from baselines.navier_stokes import forced_flow
from experiments.nns_to_nos.data import (
    darcy,
    flows,
    forcings,
    navier_stokes_files,
    small_darcy,
    splits,
    thinned,
)

SMALL = {"base": 16, "sides": (8, 16, 32), "train": 6, "val": 3, "test": 4, "steps": 30}


def rows(functions):
    return {tuple(row.flatten().tolist()) for row in functions}


@pytest.mark.parametrize("kind", ["flows", "darcy"])
def test_splits_are_disjoint_nested_and_belong_to_the_seed(kind):
    settings = SMALL if kind == "flows" else {"train": 6, "val": 3, "test": 4, "fine": 32}
    make = flows if kind == "flows" else darcy
    one, again, other = (make(seed=seed, **settings) for seed in (1, 1, 2))
    found = one.functions()
    assert found["train_x"].shape == (6, 16, 16) and found["test_y"].shape == (4, 32, 32)
    parts = [rows(thinned(found[f"{name}_x"], 8)) for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [6, 3, 4]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert torch.equal(found["test_y"], again.functions()["test_y"])
    assert not torch.equal(found["test_y"], other.functions()["test_y"])
    shuffled = make(seed=1, shuffled=True, **settings).functions()
    assert torch.equal(shuffled["train_x"], found["train_x"])
    assert not torch.equal(shuffled["train_y"], found["train_y"])
    assert rows(shuffled["train_y"]) == rows(found["train_y"])
    assert torch.equal(shuffled["test_y"], found["test_y"])
    assert one.dims == {"side": 16} and one.periodic is (kind == "flows")


def test_vorticity_is_that_of_its_forcing_solved_on_the_finest_grid():
    found = flows(**SMALL).functions()
    w = forced_flow(found["test_x"], 0.05, 2.0, 30)
    assert torch.allclose(found["test_y"], w, atol=1e-4)


def test_the_forcing_has_its_deviation_and_spectrum():
    f = forcings(500, 16, torch.Generator().manual_seed(0))
    assert float(f.std()) == pytest.approx(0.3, rel=0.03)
    power = torch.fft.fft2(f).abs().square().mean(0)
    ratio = float((power[1, 0] + power[0, 1]) / (power[2, 2] + power[2, -2]))
    assert ratio == pytest.approx(((8 + 9) / (1 + 9)) ** 2.5, rel=0.15)
    assert float(f.mean((1, 2)).abs().max()) < 1e-12


def test_inputs_are_standardised_by_the_training_functions_and_outputs_are_not():
    found = darcy(train=6, val=3, test=2, fine=32).functions()
    data, mean, deviation = splits(found)
    assert float(mean) == pytest.approx(float(found["train_x"].mean()))
    assert float(deviation) == pytest.approx(float(found["train_x"].std()))
    batch = data.val[torch.arange(3)]
    assert torch.allclose(batch["x"][:, 0] * deviation + mean, found["val_x"], atol=1e-6)
    assert torch.equal(batch["y"][:, 0], found["val_y"])


def test_thinned_grids_are_nested():
    f = torch.arange(64.0).reshape(8, 8)
    assert torch.equal(thinned(thinned(f, 4), 2), thinned(f, 2))
    assert thinned(f, 2).tolist() == [[0, 4], [32, 36]]
    with pytest.raises(ValueError, match="has none of 3"):
        thinned(f, 3)


def write(path, x, y):
    torch.save({"x": x, "y": y}, path)


def test_shipped_darcy_files_become_a_problem_of_two_grids(tmp_path):
    x, y = torch.rand(10, 16, 16) > 0.5, torch.rand(10, 16, 16)
    fine_x, fine_y = torch.rand(3, 32, 32) > 0.5, torch.rand(3, 32, 32)
    write(tmp_path / "darcy_train_16.pt", x, y)
    write(tmp_path / "darcy_test_32.pt", fine_x, fine_y)
    write(tmp_path / "darcy_test_16.pt", fine_x[:, ::2, ::2], fine_y[:, ::2, ::2])
    found = small_darcy(tmp_path, train=6, val=3).functions()
    assert torch.equal(found["train_x"], x[:6].float()) and torch.equal(found["val_y"], y[6:9])
    assert torch.equal(found["test_x"], fine_x.float())
    write(tmp_path / "darcy_test_16.pt", fine_x[:, 1::2, ::2], fine_y[:, ::2, ::2])
    with pytest.raises(ValueError, match="every second point"):
        small_darcy(tmp_path).functions()


def test_the_authors_files_are_trained_on_one_grid_and_tested_on_thinned_ones(tmp_path):
    x, y, fine = torch.rand(8, 8, 8), torch.rand(8, 8, 8), torch.rand(2, 5, 32, 32)
    write(tmp_path / "nsforcing_8_train.pt", x, y)
    write(tmp_path / "nsforcing_1024_test1.pt", *fine)
    problem = navier_stokes_files(tmp_path, 8, (4, 8, 16), train=6, val=2, test=3)
    found = problem.functions()
    assert torch.equal(found["train_x"], x[:4]) and torch.equal(found["val_y"], y[4:6])
    assert torch.equal(found["test_y"], fine[1, :3, ::2, ::2])
    assert problem.sides == [4, 8, 16] and problem.periodic


def test_flows_are_stable_in_the_time_steps_of_the_default():
    found = flows(train=1, val=1, test=2, sides=(16, 32, 64)).functions()
    fine = forced_flow(found["test_x"].double(), 0.05, 2.0, 256)
    error = (found["test_y"] - fine).norm() / fine.norm()
    assert float(error) < 1e-3 and math.isfinite(float(error))
