"""Split lists in all their forms, and feature files that stay on disk."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from experiments.tslstm.features import FeatureRows, file_name, read_features, two_stream_features
from experiments.tslstm.split_lists import Clip, SplitListError, splits_of

CLASSES = "1 ApplyEyeMakeup\n2 Surfing\n"


def ucf(root: Path, train: str, test: str, classes: str = CLASSES) -> Path:
    root.mkdir(exist_ok=True)
    (root / "classInd.txt").write_text(classes)
    (root / "trainlist01.txt").write_text(train)
    (root / "testlist01.txt").write_text(test)
    return root


@pytest.mark.parametrize("test_label", ["", " 2"])
def test_ucf101_lists_with_and_without_numbers_in_the_test_list(
    tmp_path: Path, test_label: str
) -> None:
    root = ucf(
        tmp_path,
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nSurfing/v_Surfing_g09_c02.avi 2\r\n",
        f"Surfing/v_Surfing_g01_c01.avi{test_label}\n\n",
    )
    train, test = splits_of("ucf101", root, 1)
    assert train == [Clip("v_ApplyEyeMakeup_g08_c01", 0), Clip("v_Surfing_g09_c02", 1)]
    assert test == [Clip("v_Surfing_g01_c01", 1)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Surfing/v_Surfing_g09_c02.avi 1", "Surfing has number 2"),
        ("Surfing/v_Surfing_g09_c02.avi 2 3", "expected"),
        ("v_Surfing_g09_c02.avi 2", "expected"),
        ("Surfing/v_Surfing_g09_c02 2", "expected"),
        ("Skiing/v_Skiing_g09_c02.avi 2", "not in the list of classes"),
    ],
)
def test_malformed_ucf101_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    root = ucf(tmp_path, f"Surfing/v_Surfing_g08_c01.avi 2\n{line}\n", "")
    with pytest.raises(SplitListError, match=rf"trainlist01\.txt:2: .*{message}"):
        splits_of("ucf101", root, 1)


def test_class_numbers_must_count_from_one(tmp_path: Path) -> None:
    root = ucf(tmp_path, "", "", "1 ApplyEyeMakeup\n3 Surfing\n")
    with pytest.raises(SplitListError, match=r"classInd\.txt:2"):
        splits_of("ucf101", root, 1)


def test_a_video_in_both_parts_is_an_error(tmp_path: Path) -> None:
    root = ucf(tmp_path, "Surfing/v_Surfing_g08_c01.avi 2", "Surfing/v_Surfing_g08_c01.avi")
    with pytest.raises(SplitListError, match="both"):
        splits_of("ucf101", root, 1)


def test_hmdb51_official_form(tmp_path: Path) -> None:
    folder = tmp_path / "testTrainMulti_7030_splits"
    folder.mkdir()
    (folder / "wave_test_split2.txt").write_text("w1.avi 1 \nw2.avi 2 \nw3.avi 0 \n")
    (folder / "brush_hair_test_split2.txt").write_text("b1.avi 2 \nb2.avi 1 \n")
    train, test = splits_of("hmdb51", tmp_path, 2)
    assert sorted(train) == [Clip("b2", 0), Clip("w1", 1)]
    assert sorted(test) == [Clip("b1", 0), Clip("w2", 1)]
    (folder / "wave_test_split2.txt").write_text("w1.avi 1\nw2.avi 3\n")
    with pytest.raises(SplitListError, match=r"wave_test_split2\.txt:2"):
        splits_of("hmdb51", tmp_path, 2)


def test_hmdb51_frame_lists(tmp_path: Path) -> None:
    (tmp_path / "hmdb51_flow_train_split_1.txt").write_text("data/HMDB51_flow/a_kick_2 0 21\n")
    (tmp_path / "hmdb51_flow_val_split_1.txt").write_text("data/HMDB51_flow/b_clap_0 0 4\n")
    assert splits_of("hmdb51", tmp_path, 1) == ([Clip("a_kick_2", 21)], [Clip("b_clap_0", 4)])
    (tmp_path / "hmdb51_flow_val_split_1.txt").write_text("data/HMDB51_flow/b_clap_0 0\n")
    with pytest.raises(SplitListError, match=r"val_split_1\.txt:1"):
        splits_of("hmdb51", tmp_path, 1)
    with pytest.raises(ValueError, match="1, 2 and 3"):
        splits_of("hmdb51", tmp_path, 4)


def write_features(
    root: Path, part: str, stream: str, form: str, videos: int = 5, **changes: object
) -> np.ndarray:
    seed = sum(map(ord, part + stream))
    feats = np.random.default_rng(seed).normal(size=(videos, 6, 25)).astype(np.float16)
    content = {
        "names": np.array([f"v_{part}_{i}" for i in range(videos)]),
        "feats": feats,
        "labels": np.arange(videos)[:, None] % 3 + 1,
    } | changes
    path = root / f"{file_name(part, stream, 1)}.{form}"
    if form == "npz":
        np.savez(path, **content)
    else:
        with h5py.File(path, "w") as file:
            for key, value in content.items():
                file[key] = value.astype(object) if key == "names" else value
    return feats


def write_all(root: Path, form: str) -> dict[tuple[str, str], np.ndarray]:
    return {
        (part, stream): write_features(root, part, stream, form)
        for part in ("train", "test")
        for stream in ("spatial", "temporal")
    }


def test_file_names_are_the_authors() -> None:
    expected = "data_feat_train_FlowMap-TVL1-crop20_centerCrop_25f_sp2"
    assert file_name("train", "temporal", 2) == expected
    assert file_name("test", "spatial", 3) == "data_feat_test_RGB_centerCrop_25f_sp3"


@pytest.mark.parametrize("form", ["h5", "npz"])
def test_features_are_read_by_batches_in_any_order(tmp_path: Path, form: str) -> None:
    feats = write_all(tmp_path, form)
    data = two_stream_features(tmp_path, split=1)
    assert data.dims == {"features": 12, "spatial": 6, "classes": 3, "steps": 25}
    batch = data.train[torch.tensor([4, 0, 4, 2])]
    assert batch["x"].dtype == torch.float32
    assert batch["y"].tolist() == [1, 0, 1, 2]
    for row, video in enumerate([4, 0, 4, 2]):
        both = [feats["train", stream][video].T for stream in ("spatial", "temporal")]
        np.testing.assert_array_equal(batch["x"][row], np.concatenate(both, axis=1))


def test_both_forms_are_not_loaded_into_memory(tmp_path: Path) -> None:
    write_features(tmp_path, "train", "spatial", "npz")
    write_features(tmp_path, "test", "spatial", "h5")
    assert isinstance(read_features(tmp_path, file_name("train", "spatial", 1)).feats, np.memmap)
    assert isinstance(read_features(tmp_path, file_name("test", "spatial", 1)).feats, h5py.Dataset)


def test_a_single_stream_and_shuffled_time(tmp_path: Path) -> None:
    feats = write_all(tmp_path, "h5")
    everything = torch.arange(5)
    one = two_stream_features(tmp_path, streams="temporal")
    assert one.dims["spatial"] == 0 and one.dims["features"] == 6
    np.testing.assert_array_equal(
        one.test[everything]["x"], feats["test", "temporal"].transpose(0, 2, 1)
    )
    plain = two_stream_features(tmp_path).train[everything]["x"]
    shuffled = two_stream_features(tmp_path, shuffle=True)
    mixed = shuffled.train[everything]["x"]
    assert not torch.equal(plain, mixed)
    torch.testing.assert_close(plain.sum(-1).sort(1).values, mixed.sum(-1).sort(1).values)
    assert torch.equal(shuffled.train[torch.tensor([3])]["x"][0], mixed[3])
    orders = [split.orders.tolist() for split in (shuffled.train, shuffled.test)]
    assert orders[0] != orders[1]


def test_an_uneven_memory_order_is_kept(tmp_path: Path) -> None:
    feats = np.asfortranarray(np.random.default_rng(0).normal(size=(5, 6, 25)))
    write_features(tmp_path, "train", "spatial", "npz", feats=feats)
    read = read_features(tmp_path, file_name("train", "spatial", 1))
    np.testing.assert_array_equal(read.feats, feats)
    batch = FeatureRows([read])[torch.tensor([1])]
    np.testing.assert_allclose(batch["x"][0], feats[1].T.astype(np.float32))


def test_feature_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="data_feat_train_RGB"):
        two_stream_features(tmp_path)
    write_all(tmp_path, "h5")
    write_features(
        tmp_path, "test", "temporal", "h5", names=np.array([f"v_other_{i}" for i in range(5)])
    )
    with pytest.raises(ValueError, match="different videos"):
        two_stream_features(tmp_path)
    names = np.array([f"v_train_{i}" for i in range(5)])
    for stream in ("spatial", "temporal"):
        write_features(tmp_path, "test", stream, "h5", names=names)
    with pytest.raises(ValueError, match="both training and test"):
        two_stream_features(tmp_path)
    write_features(tmp_path, "test", "spatial", "h5", labels=np.arange(5))
    with pytest.raises(ValueError, match="labels count from 1"):
        two_stream_features(tmp_path)
    write_features(tmp_path, "test", "spatial", "h5", labels=np.arange(4) + 1)
    with pytest.raises(ValueError, match="do not belong together"):
        two_stream_features(tmp_path)


def test_a_compressed_archive_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / f"{file_name('train', 'spatial', 1)}.npz"
    np.savez_compressed(path, names=np.array(["a"]), feats=np.zeros((1, 2, 25)), labels=[1])
    with pytest.raises(ValueError, match=r"numpy\.savez"):
        read_features(tmp_path, file_name("train", "spatial", 1))
