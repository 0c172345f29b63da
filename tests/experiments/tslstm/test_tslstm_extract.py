"""Features from videos, on tiny videos encoded here and a tiny ResNet with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av")
pytest.importorskip("cv2")
pytest.importorskip("transformers")

from experiments.tslstm import extract
from experiments.tslstm.features import file_name, two_stream_features
from experiments.tslstm.split_lists import Clip

SHIFT = 3


def encode(path: Path, frames: int, seed: int = 0, width: int = 320, height: int = 256) -> Path:
    """A smooth random texture that moves ``SHIFT`` pixels to the right a frame."""
    import av
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 255, (height, width + SHIFT * frames, 3))
    texture = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 4)
    texture = 255 * (texture - texture.min()) / (texture.max() - texture.min())
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.bit_rate = width, height, 4_000_000
        for t in range(frames):
            left = SHIFT * (frames - t)
            image = np.ascontiguousarray(texture[:, left : left + width].astype(np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1])
    folder = tmp_path_factory.mktemp("resnet")
    ResNetModel(config).save_pretrained(folder)
    return str(folder)


def test_positions_follow_the_authors_rule() -> None:
    """100 fields: 91 places, every third; step i is frame 3 (i - 1) + 5, counted from 1."""
    assert [p + 1 for p in extract.positions(100)] == [3 * i + 5 for i in range(25)]
    assert extract.positions(34) == list(range(4, 29))


@pytest.mark.parametrize("flows", [10, 17, 33, 34, 35, 59, 250, 1000])
def test_every_stack_lies_within_the_video(flows: int) -> None:
    found = extract.positions(flows)
    assert len(found) == 25 and found == sorted(found)
    fields = [field for step in found for field in extract.stack_of(step)]
    assert min(fields) >= 0 and max(fields) < flows
    assert all(
        len(extract.stack_of(step)) == 10 and step in extract.stack_of(step) for step in found
    )


def test_too_short_for_one_stack_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer than a stack"):
        extract.positions(9)


def test_flow_is_clipped_and_stored_like_an_image() -> None:
    flow = np.array([[[-50, 20], [0, 10]]], dtype=np.float32)
    assert extract.quantise_flow(flow).tolist() == [[[0, 128]], [[255, 191]]]


def test_centre_crop_takes_the_middle() -> None:
    image = np.zeros((256, 340, 2))
    image[16, 58], image[239, 281] = 1, 2
    cropped = extract.centre_crop(image)
    assert cropped.shape == (224, 224, 2)
    assert cropped[0, 0, 0] == 1 and cropped[-1, -1, 0] == 2


def test_a_moving_texture_gives_its_flow(tmp_path: Path) -> None:
    sample = extract.sample_video(encode(tmp_path / "v.avi", 36))
    assert sample.rgb.shape == (25, 224, 224, 3)
    assert sample.flow.shape == (25, 20, 224, 224)
    across, down = sample.flow[12, 0::2], sample.flow[12, 1::2]
    assert np.median(across) == pytest.approx(255 * (SHIFT + 20) / 40, abs=2)
    assert np.median(down) == pytest.approx(127.5, abs=2)


def test_frames_are_scaled_to_a_short_side_of_256(tmp_path: Path) -> None:
    frames = list(extract.decode(encode(tmp_path / "v.avi", 3, width=96, height=64)))
    assert [frame.shape for frame in frames] == [(256, 384, 3)] * 3


def test_inputs_are_normalised_by_channel() -> None:
    sample = extract.Sample(
        np.full((25, 224, 224, 3), 51, np.uint8), np.full((25, 20, 224, 224), 102, np.uint8)
    )
    rgb, flow = extract.network_inputs(sample)
    assert rgb.shape == (25, 3, 224, 224) and flow.shape == (25, 20, 224, 224)
    assert rgb[3, 1, 5, 5].item() == pytest.approx((0.2 - 0.3885) / 0.2348, abs=1e-4)
    assert flow[3, 18, 5, 5].item() == pytest.approx((0.4 - 0.4931) / 0.0601, abs=1e-4)
    assert flow[3, 19, 5, 5].item() == pytest.approx((0.4 - 0.4211) / 0.0582, abs=1e-4)


def test_an_rgb_network_becomes_one_for_flow(network: str) -> None:
    """With the mean filter on every channel, 20 equal channels act as 20/3 times grey RGB."""
    rgb, flow = extract.load_backbone(network, 3), extract.load_backbone(network, 20)
    grey = torch.rand(2, 1, 32, 32)
    first = rgb.embedder.embedder.convolution(grey.expand(2, 3, 32, 32))
    second = flow.embedder.embedder.convolution(grey.expand(2, 20, 32, 32))
    torch.testing.assert_close(second, first * 20 / 3, atol=1e-3, rtol=1e-3)
    assert flow(grey.expand(2, 20, 32, 32)).pooler_output.shape == (2, 6, 1, 1)


def test_unreadable_and_short_videos_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"this is not a video" * 100)
    with pytest.raises(ValueError, match=r"broken\.avi cannot be decoded"):
        extract.sample_video(broken)
    with pytest.raises(ValueError, match=r"short\.avi: 4 flow fields"):
        extract.sample_video(encode(tmp_path / "short.avi", 5, width=64, height=64))


def test_tvl1_says_which_package_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.delattr(cv2, "optflow", raising=False)
    with pytest.raises(ValueError, match="contrib"):
        extract.flow_estimator("tvl1")


def test_from_videos_to_a_data_set(
    tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable video stops the work; what was done before is kept and gone on from."""
    monkeypatch.setattr(extract, "SHORT_SIDE", 72)
    monkeypatch.setattr(extract, "CROP", 64)
    lists, videos, out = tmp_path / "lists", tmp_path / "videos", tmp_path / "out"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Run\n2 Surf\n")
    (lists / "trainlist01.txt").write_text("Run/v_Run_g08_c01.avi 1\nSurf/v_Surf_g08_c01.avi 2\n")
    (lists / "testlist01.txt").write_text("Surf/v_Surf_g01_c01.avi\n")
    encode(videos / "Run" / "v_Run_g08_c01.avi", 12, 1, 64, 64)
    encode(videos / "Surf" / "v_Surf_g01_c01.avi", 14, 2, 64, 64)
    broken = videos / "Surf" / "v_Surf_g08_c01.avi"
    command = [
        *("--dataset", "ucf101", "--videos", str(videos), "--lists", str(lists)),
        *("--out", str(out), "--device", "cpu"),
        *("--spatial-network", network, "--temporal-network", network),
    ]
    with pytest.raises(FileNotFoundError, match="1 listed videos are missing"):
        extract.main(command)
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="v_Surf_g08_c01"):
        extract.main(command)
    finished = out / f"{file_name('train', 'spatial', 1)}.h5"
    assert not finished.exists() and finished.with_name(finished.name + ".part").exists()
    broken.unlink()
    encode(broken, 13, 3, 64, 64)
    extract.main(command)
    data = two_stream_features(out, split=1)
    assert data.dims == {"features": 12, "spatial": 6, "classes": 2, "steps": 25}
    assert (len(data.train), len(data.test)) == (2, 1)
    sample = extract.sample_video(broken)
    backbones = extract.load_backbone(network, 3), extract.load_backbone(network, 20)
    expected = extract.video_features(sample, *backbones)
    row = data.train[torch.tensor([1])]
    assert row["y"].item() == 1
    np.testing.assert_allclose(row["x"][0, :, :6], expected["spatial"].T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(row["x"][0, :, 6:], expected["temporal"].T, rtol=1e-5, atol=1e-6)


def test_an_unfinished_file_of_another_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    writer = extract.FeatureWriter(path, [Clip("a", 0), Clip("b", 1)], 6)
    writer.write(0, np.ones((6, 25), np.float32))
    writer.close()
    assert not path.exists()
    with pytest.raises(ValueError, match="another list"):
        extract.FeatureWriter(path, [Clip("a", 0), Clip("c", 1)], 6)
