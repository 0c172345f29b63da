import gzip
import io
import tarfile
import wave

import numpy as np
import pytest
import torch

from experiments.lmuformer import data
from experiments.lmuformer.features import FilterBank
from harness.loading.readers import BadFormat


def write_wave(path, samples, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, "<i2").tobytes())


@pytest.fixture
def digits(tmp_path):
    """Clips of two digits, six speakers, takes 0 to 2 and 47 to 49."""
    generator = np.random.default_rng(0)
    for digit in (0, 1):
        for speaker in data.SPEAKERS:
            for take in (0, 1, 2, 47, 48, 49):
                samples = generator.normal(0, 1000, 1000 + 500 * digit)
                write_wave(tmp_path / "recordings" / f"{digit}_{speaker}_{take}.wav", samples)
    return tmp_path


def whole(split):
    return split[torch.arange(len(split))]


def same_rows(a, b):
    """How many rows of one are among those of the other."""
    found = {row.numpy().tobytes() for row in a}
    return sum(row.numpy().tobytes() in found for row in b)


def test_the_held_out_speaker_is_tested_and_nothing_else(digits):
    splits = data.spoken_digits(digits, seed=1, takes=2)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (5 * 2 * 2, 5 * 2 * 2, 12)
    x = [whole(split)["x"] for split in (splits.train, splits.val, splits.test)]
    assert not same_rows(x[0], x[1]) and not same_rows(x[0], x[2]) and not same_rows(x[1], x[2])
    other = whole(data.spoken_digits(digits, seed=2, takes=2).test)["x"]
    assert not same_rows(x[2], other)
    assert torch.equal(whole(data.spoken_digits(digits, seed=7, takes=2).test)["x"], x[2])


def test_six_seeds_hold_out_each_speaker_once(digits, monkeypatch):
    monkeypatch.setattr(data, "SPEAKERS", data.SPEAKERS[::-1])
    first = whole(data.spoken_digits(digits, seed=0).test)["x"]
    path = sorted((digits / "recordings").glob("?_yweweler_*.wav"))[0]
    with path.open("rb") as file:
        clip = data.read_wave(file, path.name, 8000).float() / 2**15
    expected = FilterBank(8000, 40, 256, 160)(clip[None])[0]
    scaled = first[0, : len(expected)]
    slope = (scaled[0, 1] - scaled[0, 0]) / (expected[0, 1] - expected[0, 0])
    torch.testing.assert_close(
        scaled - scaled[0, 0], slope * (expected - expected[0, 0]), rtol=1e-3, atol=1e-4
    )


def test_features_end_where_the_clip_ends(digits):
    splits = data.spoken_digits(digits)
    test = whole(splits.test)
    frames = [1 + (1000 + 500 * int(y) - 256) // 160 for y in test["y"]]
    assert splits.lengths.tolist() == frames
    for x, length in zip(test["x"], frames, strict=True):
        assert x[length:].unique().numel() == 1 and x[:length].unique().numel() > 40


def test_noise_fills_the_padding_and_is_the_same_again(digits):
    noisy = whole(data.spoken_digits(digits, noisy=True).test)["x"]
    assert noisy[:, -1].std() > 0
    assert torch.equal(noisy, whole(data.spoken_digits(digits, noisy=True).test)["x"])
    assert not torch.equal(noisy, whole(data.spoken_digits(digits, seed=6, noisy=True).test)["x"])


def test_features_are_scaled_by_training_alone(digits):
    x = whole(data.spoken_digits(digits).train)["x"]
    assert float(x.mean()) == pytest.approx(0, abs=1e-4)
    assert float(x.std()) == pytest.approx(0.5, rel=1e-3)


def test_shuffled_labels_are_the_same_labels_in_another_order(digits):
    plain, shuffled = (
        whole(data.spoken_digits(digits, shuffle_labels=s).train) for s in (False, True)
    )
    assert torch.equal(plain["x"], shuffled["x"])
    assert not torch.equal(plain["y"], shuffled["y"])
    assert torch.equal(plain["y"].sort().values, shuffled["y"].sort().values)


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="recordings"):
        data.spoken_digits(tmp_path)


def test_samples_are_read_and_another_rate_is_refused(tmp_path):
    write_wave(tmp_path / "a.wav", [1, -2, 3])
    content = (tmp_path / "a.wav").read_bytes()
    assert data.read_wave(io.BytesIO(content), "a.wav", 8000).tolist() == [1, -2, 3]
    with pytest.raises(BadFormat, match=r"a\.wav.*16000"):
        data.read_wave(io.BytesIO(content), "a.wav", 16000)


def test_what_is_no_wave_file_is_refused():
    with pytest.raises(BadFormat, match=r"a\.wav"):
        data.read_wave(io.BytesIO(b"RIFF, perhaps"), "a.wav", 8000)


@pytest.fixture
def words(tmp_path):
    """Speech Commands' layout: three words, their lists, and background noise."""
    for word, level in (("yes", 100), ("no", 200), ("bed", 300)):
        for clip in ("a_nohash_0", "b_nohash_0", "c_nohash_1"):
            write_wave(tmp_path / word / f"{clip}.wav", [level + ord(clip[0])] * 16000, 16000)
    write_wave(tmp_path / "_background_noise_" / "hum.wav", [5] * 32000, 16000)
    write_wave(tmp_path / "no" / "short_nohash_0.wav", [7] * 9000, 16000)
    (tmp_path / "README.md").write_text("# Speech Commands")
    (tmp_path / "validation_list.txt").write_text("yes/a_nohash_0.wav\nno/b_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("bed/c_nohash_1.wav\nyes/b_nohash_0.wav\n")
    return tmp_path


def packed(root):
    """The folder as the archive that it comes in."""
    into = root / "packed"
    into.mkdir()
    with tarfile.open(into / "speech_commands_v0.02.tar.gz", "w:gz") as tar:
        tar.add(root, arcname=".", filter=lambda m: None if "packed" in m.name else m)
    return into


def test_speech_commands_are_read_by_their_lists(words):
    splits = data.speech_commands(packed(words))
    assert splits.dims["classes"] == 3 and len(splits.train) == 10 - 4
    test, val = whole(splits.test), whole(splits.val)
    assert test["y"].tolist() == [0, 2] and val["y"].tolist() == [2, 1]
    assert (test["x"][:, 0] * 2**15).tolist() == [300 + ord("c"), 100 + ord("b")]
    train = whole(splits.train)
    assert train["x"].shape == (6, 16000) and train["x"].dtype == torch.float32
    loudness = (train["x"][:, 0] * 2**15).round().int().tolist()
    assert sorted(loudness) == [7, 199, 297, 299, 397, 398]
    assert not same_rows(train["x"], test["x"]) and not same_rows(train["x"], val["x"])
    short = loudness.index(7)
    assert train["x"][short, 8999] != 0 and train["x"][short, 9000:].abs().max() == 0


def test_a_listed_clip_that_is_missing_is_named(words):
    (words / "yes" / "b_nohash_0.wav").unlink()
    with pytest.raises(BadFormat, match="yes/b_nohash_0"):
        data.speech_commands(packed(words))


def test_an_archive_without_a_list_is_refused(words):
    (words / "testing_list.txt").unlink()
    with pytest.raises(BadFormat, match="lacks one of"):
        data.speech_commands(packed(words))


@pytest.fixture
def mnist(tmp_path):
    images = (np.arange(6 * 28 * 28) % 256).astype(np.uint8).reshape(6, 28, 28)
    for part in ("train", "t10k"):
        header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape)
        path = tmp_path / f"{part}-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(header + images.tobytes()))
        labels = b"\0\0\x08\x01" + (6).to_bytes(4, "big") + bytes(range(6))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return tmp_path, torch.from_numpy(images).float() / 255


def test_pixels_come_in_one_order_for_all_images(mnist):
    root, images = mnist
    splits = data.permuted_mnist(root, pooling=1, train=4, test=3)
    assert (len(splits.train), len(splits.test), splits.dims["frames"]) == (4, 3, 784)
    x = whole(splits.train)["x"][..., 0]
    flat = images.flatten(1)
    # Each pixel of the sequence is one of the image, the same for all images.
    assert all((flat[:4] == column[:, None]).all(0).any() for column in x.T)
    assert not torch.equal(x, flat[:4])
    assert torch.equal(x.sort(dim=1).values, flat[:4].sort(dim=1).values)
    assert torch.equal(x[:3], whole(splits.test)["x"][..., 0])
    other = whole(data.permuted_mnist(root, seed=1, pooling=1, train=4, test=3).train)["x"]
    assert not torch.equal(other[..., 0], x)


def test_pooling_averages_squares(mnist):
    root, images = mnist
    splits = data.permuted_mnist(root, train=2, test=2)
    assert splits.dims["frames"] == 196
    corner = images[0, :2, :2].mean()
    assert (whole(splits.train)["x"][0] - corner).abs().min() < 1e-6


def test_both_orders_of_chirps_look_alike_without_order():
    splits = data.chirp_order(train=4000, test=10)
    batch = whole(splits.train)
    assert 0.45 < float(batch["y"].float().mean()) < 0.55
    sums = [batch["x"][batch["y"] == y].sum(1).mean(0) for y in (0, 1)]
    assert float((sums[0] - sums[1]).abs().max()) < 1.5  # noise of a mean of 2000 sums of 64


def test_chirps_are_further_apart_than_the_convolutions_reach():
    splits = data.chirp_order(train=300, test=10, strength=1000.0)
    batch = whole(splits.train)
    for x, y in zip(batch["x"], batch["y"], strict=True):
        loud = (x > 500).nonzero()
        frames, channels = loud.T
        assert frames[4] - frames[3] >= 13 and len(frames) == 8
        assert frames.min() >= data.GUARD and frames.max() < 64 - data.GUARD
        rising, falling = [0, 1, 2, 3], [3, 2, 1, 0]
        assert channels.tolist() == (falling + rising if y else rising + falling)


def test_chirps_are_another_set_for_every_seed_and_the_same_again():
    first, again, other = (whole(data.chirp_order(s, 20, 10).test)["x"] for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    splits = data.chirp_order(0, 20, 10)
    train, val = whole(splits.train)["x"], whole(splits.val)["x"]
    assert (len(train), len(val)) == (20, 2)
    assert not same_rows(first, train) and not same_rows(first, val) and not same_rows(train, val)


def test_shuffled_chirps_keep_their_labels_in_test_alone():
    plain, shuffled = (data.chirp_order(0, 50, 20, shuffle_labels=s) for s in (False, True))
    assert torch.equal(whole(plain.test)["y"], whole(shuffled.test)["y"])
    assert torch.equal(whole(plain.train)["x"], whole(shuffled.train)["x"])
    before, after = whole(plain.train)["y"], whole(shuffled.train)["y"]
    assert not torch.equal(before, after) and before.sum() == after.sum()
