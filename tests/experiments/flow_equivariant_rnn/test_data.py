import gzip

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from experiments.flow_equivariant_rnn.data import (
    Rotation,
    Translation,
    flowing_mnist,
    ring,
    rotating_mnist,
)


def idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def mnist(tmp_path):
    """Twenty digits for training, the last two of them for validation, and ten for testing."""
    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 10)):
        images = random.integers(1, 256, (count, 28, 28), dtype=np.uint8)
        idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.zeros(count, np.uint8))
    return tmp_path


def whole(split, count=4):
    batch = split[torch.arange(count)]
    return torch.cat([batch["x"], batch["y"]], 1)


def test_each_frame_is_the_sum_of_the_objects_rolled_and_clipped():
    data = ring(train=8, test=4, frames=5).train
    found = whole(data, 8)
    for index in range(8):
        for t in range(10):
            places = data.start[index, :, 1] + t * data.velocity[index, :, 1]
            objects = data.images[data.objects[index]]
            rolled = [torch.roll(o, int(p), -1) for o, p in zip(objects, places, strict=True)]
            torch.testing.assert_close(found[index, t, 0], sum(rolled).clamp(0, 1))


def test_digits_move_down_and_to_the_right_at_their_velocities(mnist):
    data = flowing_mnist(mnist, train=6, test=4, frames=3).train
    found = whole(data, 6)
    for index in range(6):
        frame = torch.zeros(28, 28)
        for n in range(2):
            shift = (data.start[index, n] + 4 * data.velocity[index, n]).tolist()
            frame += torch.roll(data.images[data.objects[index, n]], shift, (0, 1))
        torch.testing.assert_close(found[index, 4, 0], frame.clamp(0, 1))
    assert len(data.velocity.flatten(0, 1).unique(dim=0)) > 5


def test_velocities_are_uniform_over_the_square_and_by_speed_over_its_border():
    generator = torch.Generator().manual_seed(0)
    _, velocity = Translation(9, 9, 2).drawn(2000, generator)
    values, counts = velocity.flatten(0, 1).unique(dim=0, return_counts=True)
    assert len(values) == 25 and counts.min() > 100
    for speed, cells in ((0, 1), (1, 8), (2, 16)):
        _, velocity = Translation(9, 9, 1, speed).drawn(500, generator)
        assert len(velocity.flatten(0, 1).unique(dim=0)) == cells
        assert (velocity.abs().amax(-1) == speed).all()
    start, velocity = Translation(1, 9, 2).drawn(500, generator)
    assert velocity[..., 1].unique().tolist() == [-2, -1, 0, 1, 2] and not velocity[..., 0].any()
    assert start[..., 1].unique().tolist() == list(range(9)) and not start[..., 0].any()


def test_pixels_are_averaged_before_digits_move_and_after_they_turned(mnist):
    moving = flowing_mnist(mnist, train=2, test=2, pooling=2).train
    full = flowing_mnist(mnist, train=2, test=2).train
    torch.testing.assert_close(moving.images, F.avg_pool2d(full.images, 2))
    turning, sharp = (
        rotating_mnist(mnist, train=2, test=2, pooling=p, frames=2).train for p in (2, 1)
    )
    expected = F.avg_pool2d(whole(sharp, 2).flatten(0, 1), 2)
    torch.testing.assert_close(whole(turning, 2).flatten(0, 1), expected)


def test_digits_turn_anticlockwise_from_their_first_angle():
    images = torch.rand(1, 2, 28, 28, generator=torch.Generator().manual_seed(0))
    images[:, 1] = 0
    found = Rotation((90,)).frames(images, torch.tensor([[0.0, 0]]), torch.tensor([[90, 0]]), 4)
    for t in range(4):
        expected = torch.rot90(images[0, 0], t)
        torch.testing.assert_close(found[0, t, 0], expected, rtol=0, atol=1e-4)


def test_objects_of_training_validation_and_test_are_disjoint(mnist):
    for data in (flowing_mnist(mnist, train=4, test=4), ring(train=4, test=4)):
        parts = [part.images.flatten(1) for part in (data.train, data.val, data.test)]
        rows = torch.cat(parts)
        assert len(rows.unique(dim=0)) == len(rows) == sum(map(len, parts))
        assert data.far.images is data.test.images
        assert all(split.images is data.test.images for split in data.tests["speed"].values())
    digits = flowing_mnist(mnist, train=4, test=4)
    assert [len(p.images) for p in (digits.train, digits.val, digits.test)] == [18, 2, 10]


def test_a_training_sequence_is_never_seen_twice_and_depends_on_the_seed():
    data = ring(train=300, test=20)
    sequences = whole(data.train, 300).flatten(1)
    assert len(sequences.unique(dim=0)) == 300
    assert torch.equal(whole(ring(train=300, test=20).train), whole(data.train))
    assert not torch.equal(whole(ring(1, train=300, test=20).train), whole(data.train))
    assert not torch.equal(whole(data.val, 20), whole(data.test, 20))


def test_shuffled_targets_are_other_training_sequences_futures_only_in_training():
    plain, shuffled = (ring(train=200, test=20, shuffled=s) for s in (False, True))
    a, b = (data.train[torch.arange(200)] for data in (plain, shuffled))
    assert torch.equal(a["x"], b["x"]) and not torch.equal(a["y"], b["y"])
    torch.testing.assert_close(
        a["y"].flatten(1).sum(1).sort()[0], b["y"].flatten(1).sum(1).sort()[0]
    )
    assert torch.equal(whole(plain.test), whole(shuffled.test))


def test_far_sequences_have_more_frames_to_come():
    data = ring(train=4, test=8, far=17, frames=3)
    batch = data.far[torch.arange(2)]
    assert batch["x"].shape == (2, 3, 1, 1, 24) and batch["y"].shape == (2, 17, 1, 1, 24)
    assert data.train[torch.arange(2)]["y"].shape[1] == 3
