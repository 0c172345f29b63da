"""The generator and the readers of MSR Action3D and UCF101-24 tubes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from experiments.tslstm.data import TEMPORAL_TRIPLES, TRIPLES, event_orders, order_video
from experiments.tslstm.sequences import (
    Videos,
    standardise,
    time_orders,
    two_stream_splits,
    uniform_steps,
)
from experiments.tslstm.skeletons import msr_action3d, read_joints, skeleton_streams
from experiments.tslstm.tubes import OFFSETS, box_streams, ucf101_24_tubes

SMALL = {"train_per_class": 4, "test_per_class": 3, "width": 8}


def test_classes_share_their_multiset_of_events_in_groups_of_six() -> None:
    for orders, table in zip(event_orders(4), (TRIPLES, TEMPORAL_TRIPLES), strict=True):
        for group, triple in enumerate(table):
            mine = [tuple(order) for order in orders[6 * group : 6 * group + 6].tolist()]
            assert {tuple(sorted(order)) for order in mine} == {tuple(sorted(triple))}
            assert len(set(mine)) == 6
    spatial, temporal = event_orders(4)
    assert len({tuple(order) for order in spatial.tolist()}) == 24
    assert np.array_equal(temporal[:6], temporal[6:12])


def test_order_video_is_reproducible_and_every_seed_another_set() -> None:
    first, again, other = order_video(1, **SMALL), order_video(1, **SMALL), order_video(2, **SMALL)
    assert torch.equal(first.train.columns["x"], again.train.columns["x"])
    assert not torch.allclose(first.train.columns["x"], other.train.columns["x"])
    assert not torch.allclose(first.train.columns["x"][:5], first.test.columns["x"][:5])
    assert first.dims == {"features": 16, "spatial": 8, "classes": 24, "steps": 25}
    assert torch.bincount(first.train.columns["y"]).tolist() == [4] * 24


def test_order_video_shows_its_events_in_the_order_of_the_class() -> None:
    """Without noise, the first two classes differ by an exchange of the last two phases."""
    data = order_video(0, train_per_class=400, test_per_class=1, width=16, noise=0.0, triples=2)
    x, y = data.train.columns["x"], data.train.columns["y"]
    a, b, c = (x[y == 0].mean(0)[steps].mean(0) for steps in ([0, 4], [11, 13], [21, 24]))
    first, second, third = (x[y == 1].mean(0)[steps].mean(0) for steps in ([0, 4], [11, 13], [21]))
    for mine, same, different in ((first, a, b), (second, c, b), (third, b, c)):
        assert (mine - same).norm() < 0.4 * (mine - different).norm()


def test_without_order_the_six_classes_of_a_triple_are_alike() -> None:
    """Mean features over whole videos are far closer within a triple than between two."""
    data = order_video(0, train_per_class=300, test_per_class=1, width=16, noise=0.0, triples=2)
    x, y = data.train.columns["x"].mean(1), data.train.columns["y"]
    means = torch.stack([x[y == k].mean(0) for k in range(12)])
    distances = torch.cdist(means, means)
    assert distances[:6, :6].max() < 0.5 * distances[:6, 6:].min()


def test_a_single_triple_is_no_task() -> None:
    with pytest.raises(ValueError, match="triples"):
        order_video(triples=1)


def test_shuffling_keeps_each_videos_frames_and_its_streams_together() -> None:
    plain, shuffled = order_video(3, **SMALL), order_video(3, **SMALL, shuffle=True)
    for split in ("train", "test"):
        x = getattr(plain, split).columns["x"]
        mixed = getattr(shuffled, split).columns["x"]
        assert not torch.equal(x, mixed)
        matched = torch.cdist(mixed, x).argmin(-1)
        assert torch.equal(matched.sort(1).values, torch.arange(25).expand_as(matched))
        assert torch.equal(x.gather(1, matched[..., None].expand_as(x)), mixed)
        assert len({tuple(order) for order in matched.tolist()}) == len(x)


def test_every_seed_and_split_has_its_own_orders_of_time() -> None:
    first = time_orders(4, 9, 0, "train")
    assert np.array_equal(first, time_orders(4, 9, 0, "train"))
    for seed, split in ((1, "train"), (0, "test")):
        assert not np.array_equal(first, time_orders(4, 9, seed, split))


@pytest.mark.parametrize(("streams", "spatial"), [("spatial", 8), ("temporal", 0)])
def test_a_single_stream_is_a_part_of_both(streams: str, spatial: int) -> None:
    both, one = order_video(3, **SMALL), order_video(3, **SMALL, streams=streams)
    part = both.test.columns["x"][..., :8] if spatial else both.test.columns["x"][..., 8:]
    assert torch.equal(one.test.columns["x"], part)
    assert one.dims["features"] == 8 and one.dims["spatial"] == spatial


def test_standardisation_uses_training_statistics_only() -> None:
    generator = np.random.default_rng(0)
    train = (generator.normal(size=(50, 25, 3)) * [1, 5, 0] + [0, 2, 7]).astype(np.float32)
    test = train[:4] + 10
    new_train, new_test = standardise(train, test)
    np.testing.assert_allclose(new_train.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(new_train.std((0, 1)), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(
        new_test - new_train[:4],
        [[[10 / s for s in (train[..., 0].std(), train[..., 1].std(), 1.0)]] * 25] * 4,
        rtol=1e-4,
    )


def test_uniform_steps_reach_from_first_to_last() -> None:
    assert uniform_steps(25).tolist() == list(range(25))
    steps = uniform_steps(100)
    assert (steps[0], steps[-1]) == (0, 99) and set(np.diff(steps)) <= {4, 5}
    assert sorted(set(uniform_steps(3).tolist())) == [0, 1, 2]
    with pytest.raises(ValueError, match="without frames"):
        uniform_steps(0)


def skeleton(frames: int, seed: int, lost: int = 0) -> str:
    """A table as in the real files; the first ``lost`` frames have no skeleton."""
    joints = np.random.default_rng(seed).normal(size=(frames, 20, 3))
    joints[:lost] = 0
    rows = np.concatenate([joints.reshape(-1, 3), np.ones((frames * 20, 1))], axis=1)
    return "\n".join("  ".join(f"{value:.7e}" for value in row) for row in rows) + "\n"


def msr_files() -> dict[str, str]:
    names = ["a01_s01_e01", "a20_s01_e02", "a01_s02_e01", "a07_s10_e01", "a13_s09_e02"]
    texts = {f"{n}_skeleton3D.txt": skeleton(13 + i, i, i) for i, n in enumerate(names)}
    return texts


@pytest.mark.parametrize("packed", [False, True])
def test_msr_action3d_splits_by_subject(tmp_path: Path, packed: bool) -> None:
    files = msr_files()
    kept = [name.removesuffix("_skeleton3D.txt") for name in files][:4]
    (tmp_path / "files_used_in_cvpr12_paper.txt").write_text("\r\n".join(kept))
    if packed:
        with tarfile.open(tmp_path / "skeletons.tar.gz", "w:gz") as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
    else:
        (tmp_path / "deep" / "down").mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / "deep" / "down" / name).write_text(text)
    data = msr_action3d(tmp_path)
    assert data.train.columns["y"].tolist() == [0, 19]
    assert data.test.columns["y"].tolist() == [0, 6]
    assert data.train.columns["x"].shape == (2, 25, 120)
    assert data.dims == {"features": 120, "spatial": 60, "classes": 20, "steps": 25}


def test_msr_streams_are_positions_from_the_hip_and_velocities(tmp_path: Path) -> None:
    joints = read_joints(skeleton(30, 0, lost=4), "x")
    assert len(joints) == 26
    spatial, temporal = skeleton_streams(joints)
    at = uniform_steps(26)
    np.testing.assert_allclose(spatial[7, :3], joints[at[7], 0] - joints[at[7], 6], rtol=1e-5)
    np.testing.assert_allclose(spatial[:, 18:21], 0)
    expected = (joints[at[7] + 1, 5] - joints[at[7] - 1, 5]) / 2
    np.testing.assert_allclose(temporal[7, 15:18], expected, rtol=1e-5)


def test_msr_action3d_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="files_used"):
        msr_action3d(tmp_path)
    (tmp_path / "files_used_in_cvpr12_paper.txt").write_text("a01_s01_e01\n")
    with pytest.raises(FileNotFoundError, match="a01_s01_e01"):
        msr_action3d(tmp_path)
    broken = tmp_path / "a01_s01_e01_skeleton3D.txt"
    broken.write_text("\n".join(skeleton(13, 0).splitlines()[:-1]))
    with pytest.raises(ValueError, match=r"a01_s01_e01_skeleton3D\.txt: expected 20 rows"):
        msr_action3d(tmp_path)
    broken.write_text("1 2 three 4\n" * 20)
    with pytest.raises(ValueError, match=r"a01_s01_e01_skeleton3D\.txt"):
        msr_action3d(tmp_path)


def tube(boxes: list[list[float]], start: int = 1) -> dict[str, object]:
    return {"sf": start, "ef": start + len(boxes) - 1, "class": 1, "boxes": np.array(boxes)}


def write_tubes(root: Path) -> None:
    moving = [[10.0 + 2 * t, 20.0, 32.0, 48.0] for t in range(40)]
    still = [[100.0, 100.0, 30.0, 60.0]] * 5
    videos = [
        ("Surfing/v_Surfing_g08_c01", [tube(moving)]),
        ("Basketball/v_Basketball_g09_c01", [tube(still), tube(moving)]),
        ("Basketball/v_Basketball_g01_c01", [tube(still[:1])]),
        ("Surfing/v_Surfing_g02_c01", [tube(still), tube(still[:1])]),
    ]
    dtype = [("name", object), ("num_imgs", object), ("tubes", object)]
    tube_type = [(key, object) for key in ("sf", "ef", "class", "boxes")]
    rows = []
    for name, tubes in videos:
        packed = np.array([tuple(t.values()) for t in tubes], dtype=tube_type)
        rows.append((name, 50, packed))
    savemat(root / "finalAnnots.mat", {"annot": np.array(rows, dtype=dtype)})
    (root / "testlist01.txt").write_text(
        "Basketball/v_Basketball_g01_c01\nSurfing/v_Surfing_g02_c01\n"
    )


def test_tubes_take_the_longest_and_split_by_the_list(tmp_path: Path) -> None:
    write_tubes(tmp_path)
    data = ucf101_24_tubes(tmp_path)
    assert data.train.columns["y"].tolist() == [1, 0]
    assert data.test.columns["y"].tolist() == [0, 1]
    assert data.dims == {"features": 25, "spatial": 5, "classes": 2, "steps": 25}
    # both training videos' longest tubes are the same moving box
    assert torch.equal(data.train.columns["x"][0], data.train.columns["x"][1])


def test_box_streams_by_hand() -> None:
    boxes = np.array([[10.0 + 2 * t, 20.0, 32.0, 48.0] for t in range(40)])
    spatial, temporal = box_streams(boxes)
    at = uniform_steps(40)
    np.testing.assert_allclose(
        spatial[12],
        [(26 + 2 * at[12]) / 320, 44 / 240, 0.1, 0.2, np.log(32 / 48)],
        rtol=1e-5,
    )
    np.testing.assert_allclose(temporal[12, 0::2], [2 * d / 320 for d in OFFSETS], atol=1e-6)
    np.testing.assert_allclose(temporal[12, 1::2], 0, atol=1e-7)
    np.testing.assert_allclose(temporal[0, 0:10:2], 0, atol=1e-7)  # nothing before the first frame


def test_a_listed_video_without_annotation_is_an_error(tmp_path: Path) -> None:
    write_tubes(tmp_path)
    (tmp_path / "testlist01.txt").write_text("Surfing/v_Surfing_g03_c01\n")
    with pytest.raises(ValueError, match="v_Surfing_g03_c01"):
        ucf101_24_tubes(tmp_path)


def test_dims_describe_the_tensors() -> None:
    videos = Videos(
        np.zeros((3, 25, 2), np.float32), np.zeros((3, 25, 5), np.float32), np.arange(3)
    )
    data = two_stream_splits(videos, videos, classes=3)
    assert data.dims == {"features": 7, "spatial": 2, "classes": 3, "steps": 25}
