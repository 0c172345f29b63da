import cv2
import numpy as np
import pytest
import torch

from experiments.flow_equivariant_rnn.kth import Clips, Span, moving_kth, read_spans, read_video
from experiments.flow_equivariant_rnn.recognition import Convolutional, Recogniser
from harness.loading.readers import BadFormat

LISTING = """Sequences of the KTH data

person01_boxing_d1\t\tframes\t1-40, 41-50
person18_walking_d2\tframes\t0-39
person25_running_d4\tframes\t3-60
"""


def write_video(path, shades):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (160, 120))
    for shade in shades:
        writer.write(np.full((120, 160, 3), shade, np.uint8))
    writer.release()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "00sequences.txt").write_text(LISTING)
    (tmp_path / "kth_actions").mkdir()
    for name in ("person01_boxing_d1", "person18_walking_d2", "person25_running_d4"):
        write_video(tmp_path / "kth_actions" / f"{name}_uncomp.avi", range(0, 200, 4))
    return tmp_path


def test_spans_are_read_from_the_official_listing(root):
    spans = list(read_spans(root / "00sequences.txt"))
    assert [(s.person, s.action, s.first, s.last, s.part) for s in spans] == [
        (1, 3, 1, 40, "train"),
        (1, 3, 41, 50, "train"),
        (18, 0, 0, 39, "val"),
        (25, 2, 3, 60, "test"),
    ]


@pytest.mark.parametrize("text", ["", "person01_boxing_d1 1-40", "person01_dancing_d1 frames 1-4"])
def test_what_is_no_listing_is_refused(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(BadFormat, match=r"list\.txt"):
        list(read_spans(tmp_path / "list.txt"))


def test_videos_become_grey_frames(root):
    frames = read_video(root / "kth_actions" / "person01_boxing_d1_uncomp.avi", 8)
    assert frames.shape == (50, 8, 8) and frames.dtype == torch.uint8
    assert abs(int(frames[30, 4, 4]) - 120) < 4
    (root / "broken.avi").write_bytes(b"no video")
    with pytest.raises(BadFormat, match=r"broken\.avi"):
        read_video(root / "broken.avi", 8)


def test_clips_are_cut_from_spans_that_are_long_enough_by_persons(root):
    data = moving_kth(root, side=8, train_draws=20, test_draws=2)
    assert [len(part) for part in (data.train, data.val, data.test)] == [20, 2, 2]
    batch = data.train[torch.arange(20)]
    assert batch["x"].shape == (20, 16, 1, 8, 8) and set(batch["y"].tolist()) == {3}
    shades = 255 * batch["x"].mean((2, 3, 4)) / 4  # the number of a frame
    assert shades[:, 0].min() > 0 and shades[:, -1].max() < 41
    torch.testing.assert_close(shades.diff(dim=1), torch.full((20, 15), 2.0), atol=0.6, rtol=0)
    assert len(shades[:, 0].round().unique()) > 4  # as many starts as there are
    persons = [{span.person for span in part.spans} for part in (data.train, data.val, data.test)]
    assert persons == [{1}, {18}, {25}]


def test_clips_move_at_their_velocity_and_half_of_the_training_clips_are_mirrored():
    video = torch.randint(0, 256, (32, 6, 7), dtype=torch.uint8)
    span = Span("a", 1, 0, 0, 31)
    clips = Clips({"a": video}, [span], 200, 2, torch.Generator().manual_seed(3), mirrored=True)
    assert (clips.velocity == clips.velocity[0]).all() and clips.velocity[0].any()
    assert 70 < int(clips.mirror.sum()) < 130
    for index in (int(clips.mirror.int().argmin()), int(clips.mirror.int().argmax())):
        expected = torch.roll(video[10] / 255, (5 * clips.velocity[0]).tolist(), (0, 1))
        expected = expected.flip(1) if clips.mirror[index] else expected
        torch.testing.assert_close(clips[torch.tensor([index])]["x"][0, 5, 0], expected)


def test_persons_are_dealt_as_the_data_set_says():
    parts = [Span("a", person, 0, 0, 31).part for person in range(1, 26)]
    assert parts == 16 * ["train"] + 4 * ["val"] + 5 * ["test"]


def test_every_span_has_a_velocity_of_its_own_and_its_clips_share_it():
    video = torch.zeros(32, 2, 2, dtype=torch.uint8)
    spans = [Span("a", person, 0, 0, 31) for person in range(10)]
    clips = Clips({"a": video}, spans, 3, 2, torch.Generator().manual_seed(0))
    first, *others = clips.velocity.split(10)
    assert all(torch.equal(first, other) for other in others)
    assert len(first.unique(dim=0)) > 5


@torch.no_grad()
def test_actions_are_told_from_the_largest_activity_over_banks_in_the_end():
    torch.manual_seed(0)
    model, x = Recogniser(8, 3, hidden=4, reach=1).eval(), torch.rand(2, 3, 1, 8, 8)
    h = model.cell.initial(2, x)
    for step, frame in enumerate(x.unbind(1)):
        h = model.cell(frame, h, step)
    torch.testing.assert_close(model(x), model.head(h.max(dim=1).values.mean((2, 3))))


def test_banks_of_a_recogniser_follow_a_flow():
    torch.manual_seed(0)
    model = Recogniser(9, 3, hidden=4, reach=1).double()
    model.cell.inputs = torch.nn.Conv2d(1, 4, 1).double()  # the encoder's edges are not circular
    x = torch.rand(2, 5, 1, 9, 9, dtype=torch.float64)
    flowing = torch.stack([torch.roll(f, t, -1) for t, f in enumerate(x.unbind(1))], 1)

    def state(clip, velocity):
        h = model.cell.initial(2, clip)
        for step, frame in enumerate(clip.unbind(1)):
            h = model.cell(frame, h, step)
        return h[:, model.cell.velocities.index(velocity)]

    expected = torch.roll(state(x, (0, 0)), 4, -1)
    torch.testing.assert_close(state(flowing, (0, 1)), expected)
    assert not torch.allclose(state(flowing, (0, 0)), expected, atol=1e-3)
    assert state(x, (0, 0)).min() < 0  # tanh, not ReLU


def test_parameters_of_the_recognisers_are_those_counted_by_hand():
    encoder = 25 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 2 * (32 + 64 + 128)
    recurrent = encoder + 9 * 128 * 128 + 128 * 6 + 6
    counts = {
        reach: sum(p.numel() for p in Recogniser(32, 6, reach=reach).parameters())
        for reach in (0, 1, 2)
    }
    assert set(counts.values()) == {recurrent}
    learned = Recogniser(32, 6, flow="learned")
    assert sum(p.numel() for p in learned.parameters()) == recurrent + 25 * 25
    sizes = [(1, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    by_hand = sum(27 * a * b + 2 * b for a, b in sizes) + 64 * 6 + 6
    assert sum(p.numel() for p in Convolutional(6).parameters()) == by_hand


def test_the_convolutional_network_halves_time_once_and_space_twice():
    model = Convolutional(6, base=2)
    shapes = []
    model.layers.register_forward_hook(lambda *seen: shapes.append(tuple(seen[2].shape)))
    assert model(torch.rand(3, 16, 1, 32, 32)).shape == (3, 6)
    assert shapes == [(3, 8, 8, 8, 8)]
