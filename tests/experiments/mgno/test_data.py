import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from baselines.pde import (
    corrector,
    diffusion,
    diffusion_matrix,
    gaussian_field,
    navier_stokes,
    two_phases,
)
from experiments.mgno import data
from experiments.mgno.data import (
    Source,
    darcy,
    darcy_files,
    navier_stokes_files,
    small_darcy,
    vorticity,
)
from harness.seeding import derive


def columns(split, name):
    return split[torch.arange(len(split))][name]


def rows(split):
    return {tuple(row.flatten().tolist()) for row in columns(split, "x")}


@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_splits_are_disjoint_and_belong_to_the_seed(boundary):
    settings = {"side": 8, "train": 20, "val": 5, "test": 7, "boundary": boundary}
    splits = darcy(seed=1, **settings)
    parts = [rows(split) for split in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in parts] == [20, 5, 7]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert torch.equal(columns(darcy(seed=1, **settings).test, "y"), columns(splits.test, "y"))
    assert not torch.equal(columns(darcy(seed=2, **settings).test, "y"), columns(splits.test, "y"))


def test_solutions_belong_to_their_coefficients():
    splits = darcy(side=8, train=4, val=2, test=2)
    x, y = columns(splits.train, "x"), columns(splits.train, "y").double()
    for scaled, u in zip(x[:, 0], y[:, 0], strict=True):
        a = torch.where(scaled > scaled.mean(), 12.0, 2.0)
        flux = torch.from_numpy(diffusion_matrix(a) @ u.flatten().numpy())
        assert torch.allclose(flux, torch.ones(64, dtype=torch.float64), atol=1e-3)


@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_the_torus_has_periodic_media_and_their_correctors_and_the_square_its_flow(boundary):
    periodic = boundary == "periodic"
    generator = torch.Generator().manual_seed(derive(3, "darcy", boundary))
    field = gaussian_field(4, 8, 2.0, 5.0, generator, periodic)
    a = two_phases(field, 2.0, 12.0)
    u = corrector(a) if periodic else diffusion(a, 1.0)
    splits = darcy(seed=3, side=8, train=2, val=1, test=1, boundary=boundary)
    assert torch.allclose(columns(splits.train, "y")[:, 0], u[:2].float())
    x = columns(splits.train, "x")[:, 0]
    assert torch.equal(x > x.mean(), field[:2] >= 0)


def test_inputs_and_outputs_are_standardised_by_the_training_functions():
    splits = darcy(side=8, train=30, val=5, test=5)
    x, y = columns(splits.train, "x"), columns(splits.train, "y")
    assert float(x.mean()) == pytest.approx(0, abs=1e-5) and float(x.std()) == pytest.approx(
        1, abs=1e-3
    )
    assert float(splits.mean) == pytest.approx(float(y.mean()))
    assert float(splits.deviation) == pytest.approx(float(y.std()) + 1e-5)
    assert splits.dims == {"side": 8}


def test_shuffling_deals_the_training_solutions_out_anew_and_leaves_the_test_alone():
    plain, shuffled = (darcy(side=8, train=20, val=2, test=3, shuffled=s) for s in (False, True))
    y, z = columns(plain.train, "y"), columns(shuffled.train, "y")
    assert not torch.equal(y, z)
    assert torch.equal(y.flatten(1).sum(1).sort()[0], z.flatten(1).sum(1).sort()[0])
    assert torch.equal(columns(plain.test, "y"), columns(shuffled.test, "y"))


def test_steps_join_neighbouring_states_and_roll_outs_begin_with_them():
    splits = vorticity(side=8, train=2, val=1, test=2, steps=3)
    x, y = columns(splits.train, "x"), columns(splits.train, "y")
    assert x.shape == (6, 1, 8, 8)
    assert torch.equal(x[1], y[0]) and torch.equal(x[5], y[4]) and not torch.equal(x[3], y[2])
    states = splits.rollout.columns
    assert states["x"].shape == (2, 1, 8, 8) and states["y"].shape == (2, 3, 8, 8)
    x, y = columns(splits.test, "x"), columns(splits.test, "y")
    assert torch.equal(states["x"][1], x[3]) and torch.equal(states["y"][1, 2], y[5, 0])
    assert not rows(splits.train) & rows(splits.test)
    assert (float(splits.mean), float(splits.deviation)) == (0.0, 1.0)


def test_vortices_are_a_forced_fluid_on_twice_as_many_points():
    generator = torch.Generator().manual_seed(derive(4, "vorticity"))
    start = 7**1.5 * gaussian_field(3, 16, 2.5, 7.0, generator, periodic=True)
    x = torch.arange(16, dtype=torch.float64) / 16
    wave = 2 * torch.pi * (x[:, None] + x[None])
    forcing = 0.1 * (torch.sin(wave) + torch.cos(wave))
    w = navier_stokes(start, 1e-3, torch.tensor([0.0, 1.0, 2.0]), 0.05, forcing)
    splits = vorticity(seed=4, side=8, train=1, val=1, test=1, steps=2)
    states = splits.rollout.columns
    found = torch.cat([states["x"], states["y"]], 1)[0]
    assert torch.allclose(found, w[2, :, ::2, ::2].float(), atol=1e-5)
    calm = navier_stokes(start, 1e-3, torch.tensor([2.0]), 0.05)[2, 0, ::2, ::2]
    assert float((found[-1] - calm).abs().max()) > 0.1


# Files.


def write(path, old, **arrays):
    if old:
        savemat(path, arrays)
        return
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array.T


@pytest.mark.parametrize("old", [True, False])
def test_darcy_files_of_both_formats_are_split_thinned_and_standardised(tmp_path, monkeypatch, old):
    parts = {"train": ("one.mat", 0, 4), "val": ("one.mat", 4, 6), "test": ("two.mat", 0, 2)}
    monkeypatch.setitem(data.PROBLEMS, "rough", Source(parts, 2, "none", "pointwise"))
    generator = np.random.default_rng(0)
    one, two = generator.standard_normal((2, 6, 7, 7))
    write(tmp_path / "one.mat", old, coeff=one, sol=one + 1)
    write(tmp_path / "two.mat", old, coeff=two, sol=two + 1)
    splits = darcy_files(tmp_path, "rough")
    expected = torch.from_numpy(one[:, None, ::2, ::2]).float()
    assert torch.equal(columns(splits.train, "x"), expected[:4])
    assert torch.allclose(columns(splits.val, "y"), expected[4:] + 1, atol=1e-6)
    assert torch.equal(columns(splits.test, "x")[1, 0], torch.from_numpy(two[1, ::2, ::2]).float())
    assert torch.allclose(splits.mean, (expected[:4] + 1).mean(0)[0], atol=1e-6)
    assert splits.dims == {"side": 4}
    with pytest.raises(ValueError, match="no functions"):
        write(tmp_path / "two.mat", old, coeff=two[:1], sol=two[:1])
        darcy_files(tmp_path, "rough")


def test_the_problems_are_those_of_the_authors_scripts():
    sizes = {
        name: {part: (first, end) for part, (_, first, end) in source.parts.items()}
        for name, source in data.PROBLEMS.items()
    }
    assert sizes["smooth"] == {"train": (0, 1000), "val": (100, 200), "test": (0, 100)}
    assert sizes["rough"] == {"train": (0, 1280), "val": (1280, 1392), "test": (0, 112)}
    assert sizes["multiscale"] == {"train": (0, 1000), "test": (0, 100)}
    for source in data.PROBLEMS.values():  # validation and test never share a range of a file
        spans = list(source.parts.values())
        for file, first, end in spans:
            others = [s for s in spans if s[0] == file and s[1:] != (first, end)]
            assert all(end <= s[1] or s[2] <= first for s in others)


def test_the_navier_stokes_file_becomes_pairs_and_roll_outs(tmp_path):
    u = np.random.default_rng(0).standard_normal((1102, 2, 2, 4)).astype(np.float32)
    savemat(tmp_path / "NavierStokes_V1e-5_N1200_T20.mat", {"u": u})
    splits = navier_stokes_files(tmp_path, steps=2)
    x, y = columns(splits.train, "x"), columns(splits.train, "y")
    assert x.shape == (2000, 1, 2, 2)
    assert torch.equal(x[3, 0], torch.from_numpy(u[1, ..., 1]))
    assert torch.equal(y[3, 0], torch.from_numpy(u[1, ..., 2]))
    roll = splits.rollout.columns
    assert torch.equal(roll["x"][0, 0], torch.from_numpy(u[1002, ..., 0]))
    assert torch.equal(roll["y"][-1, 1], torch.from_numpy(u[1101, ..., 2]))


def test_small_darcy_has_the_pairs_after_the_training_ones_for_validation(tmp_path):
    for name, count in (("train", 10), ("test", 3)):
        x = torch.rand(count, 4, 4) > 0.5
        torch.save({"x": x, "y": torch.rand(count, 4, 4)}, tmp_path / f"darcy_{name}_16.pt")
    splits = small_darcy(tmp_path, train=6, val=3)
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [6, 3, 3]
    written = torch.load(tmp_path / "darcy_train_16.pt", weights_only=True)["y"]
    assert torch.equal(columns(splits.val, "y")[:, 0], written[6:9])
