"""Two-stream features from the videos themselves, in the form that ``features`` reads.

    python -m experiments.tslstm.extract --help

From every video 25 steps are sampled. The spatial network sees the step's RGB frame, the
temporal network a stack of the ten optical-flow fields around it; the features are the 2048
numbers before the classifier of a ResNet-101. The paper fine-tunes both networks on each
split's training videos, so pass the fine-tuned networks: with ImageNet's weights the features
are weaker, and those of flow mean little.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.tslstm.features import file_name
from experiments.tslstm.sequences import STEPS
from experiments.tslstm.split_lists import Clip, splits_of

log = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]
FlowMethod = Literal["dis", "tvl1"]

SHORT_SIDE, CROP = 256, 224
STACK = 10
FLOW_BOUND = 20.0
RGB_MEAN, RGB_STD = (0.3974, 0.3885, 0.3517), (0.2415, 0.2348, 0.2307)
FLOW_MEAN, FLOW_STD = (0.4931, 0.4211), (0.0601, 0.0582)


@dataclass(frozen=True)
class Sample:
    """A video at 25 steps: RGB (25, 224, 224, 3) and flow stacks (25, 20, 224, 224), as bytes."""

    rgb: Bytes
    flow: Bytes


def positions(flows: int, steps: int = STEPS) -> list[int]:
    """Frames (from 0) of the steps of a video with so many flow fields.

    The authors' rule: of the n = F - 10 + 1 places of a stack of ten, every floor(n/25)-th from
    the first, each step being the fifth frame of its stack. A video with fewer than 25 places
    spreads its steps evenly instead, some places being used twice; the authors leave it out.

    Raises:
        ValueError: when not even one stack fits.
    """
    places = flows - STACK + 1
    if places < 1:
        raise ValueError(f"{flows} flow fields are fewer than a stack of {STACK}")
    if places < steps:
        first = np.linspace(0, places - 1, steps).round().astype(int)
    else:
        first = np.arange(steps) * (places // steps)
    return [int(place) + STACK // 2 - 1 for place in first]


def stack_of(frame: int) -> range:
    """The ten flow fields around a step; field j leads from frame j to frame j + 1."""
    return range(frame - STACK // 2 + 1, frame + STACK // 2 + 1)


def sample_video(path: Path, method: FlowMethod = "dis") -> Sample:
    """Decode a video twice: once to count its frames, once for what the 25 steps need.

    Raises:
        ValueError: when it cannot be decoded or is shorter than 11 frames.
    """
    frames = sum(1 for _ in decode(path))
    try:
        steps = positions(frames - 1)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    wanted_flows = {field for step in steps for field in stack_of(step)}
    optical_flow = flow_estimator(method)
    rgb: dict[int, Bytes] = {}
    flow: dict[int, Bytes] = {}
    previous: Bytes | None = None
    for index, frame in enumerate(decode(path)):
        grey = _grey(frame)
        if previous is not None and index - 1 in wanted_flows:
            flow[index - 1] = quantise_flow(centre_crop(optical_flow.calc(previous, grey, None)))
        if index in steps:
            rgb[index] = centre_crop(frame)
        previous = grey
    return Sample(
        np.stack([rgb[step] for step in steps]),
        np.stack([np.concatenate([flow[f] for f in stack_of(step)]) for step in steps]),
    )


def decode(path: Path) -> Iterator[Bytes]:
    """RGB frames (height, width, 3) of the first video stream, its short side 256 pixels."""
    import av

    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                scale = SHORT_SIDE / min(frame.width, frame.height)
                width, height = round(frame.width * scale), round(frame.height * scale)
                scaled = frame.reformat(width, height, "rgb24", interpolation="BILINEAR")
                yield np.asarray(scaled.to_ndarray(), dtype=np.uint8)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path.name} cannot be decoded: {error}") from error


def flow_estimator(method: FlowMethod) -> Any:
    """OpenCV's estimator: DIS, or the paper's TV-L1, which only the contrib package has."""
    import cv2

    if method == "dis":
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if not hasattr(cv2, "optflow"):
        raise ValueError("TV-L1 flow needs opencv-contrib-python-headless in place of opencv")
    return cv2.optflow.createOptFlow_DualTVL1()


def quantise_flow(flow: NDArray[np.float32]) -> Bytes:
    """(height, width, 2) in pixels -> (2, height, width): ±20 on 0 … 255, as stored images."""
    shares = (np.clip(flow, -FLOW_BOUND, FLOW_BOUND) + FLOW_BOUND) / (2 * FLOW_BOUND)
    return np.round(255 * shares).astype(np.uint8).transpose(2, 0, 1)


def centre_crop(image: NDArray[Any]) -> NDArray[Any]:
    """(height, width, ...) -> (224, 224, ...)."""
    top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
    return image[top : top + CROP, left : left + CROP]


def _grey(frame: Bytes) -> Bytes:
    import cv2

    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def network_inputs(sample: Sample) -> tuple[Tensor, Tensor]:
    """Normalised RGB (25, 3, 224, 224) and flow (25, 20, 224, 224)."""
    rgb = torch.from_numpy(sample.rgb).permute(0, 3, 1, 2)
    flow = torch.from_numpy(sample.flow)
    pairs = flow.shape[1] // 2
    return (
        _normalised(rgb, RGB_MEAN, RGB_STD),
        _normalised(flow, FLOW_MEAN * pairs, FLOW_STD * pairs),
    )


def _normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    shift, scale = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    return (images.float() / 255 - shift) / scale


def load_backbone(name: str, channels: int) -> nn.Module:
    """A ResNet of transformers, by folder or hub name, for images of ``channels`` channels.

    A network for RGB images gets, for every channel, the mean of its first filters over red,
    green and blue: the usual start of a flow network before it is fine-tuned.
    """
    from transformers import ResNetModel

    model: Any = ResNetModel.from_pretrained(name)
    if model.config.num_channels != channels:
        inflate(model, channels)
    network: nn.Module = model.eval()
    return network


def inflate(model: Any, channels: int) -> None:
    """Give the first convolution ``channels`` inputs, each with the mean of the old filters."""
    embedder = model.embedder.embedder
    old = embedder.convolution
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=False
    )
    with torch.no_grad():
        new.weight.copy_(old.weight.mean(1, keepdim=True).expand_as(new.weight))
    embedder.convolution = new
    model.embedder.num_channels = model.config.num_channels = channels


@torch.inference_mode()
def video_features(sample: Sample, spatial: nn.Module, temporal: nn.Module) -> dict[str, Any]:
    """Features of both streams by name, each (features, 25) in single precision."""
    found = {}
    for name, images, model in zip(
        ("spatial", "temporal"), network_inputs(sample), (spatial, temporal), strict=True
    ):
        device = next(model.parameters()).device
        pooled = model(images.to(device)).pooler_output.flatten(1)
        found[name] = pooled.float().cpu().numpy().T
    return found


class FeatureWriter:
    """One file of features, written video by video; an interrupted one is gone on with.

    Until all videos are there its name ends in ``.part``.
    """

    def __init__(self, path: Path, clips: Sequence[Clip], width: int) -> None:
        import h5py

        self.path = path
        self.part = path.with_name(path.name + ".part")
        names = [clip.name for clip in clips]
        self.file = h5py.File(self.part, "a")
        if "names" not in self.file:
            self.file["labels"] = np.array([clip.label + 1 for clip in clips])
            self.file.create_dataset("feats", (len(clips), width, STEPS), dtype=np.float32)
            self.file.create_dataset("done", data=np.zeros(len(clips), dtype=bool))
            self.file["names"] = np.array(names, dtype=object)
        elif list(self.file["names"].asstr()[:]) != names:
            raise ValueError(f"{self.part.name} was begun with another list of videos")

    def has(self, row: int) -> bool:
        return bool(self.file["done"][row])

    def write(self, row: int, feats: NDArray[np.float32]) -> None:
        self.file["feats"][row] = feats
        self.file["done"][row] = True
        self.file.flush()

    def close(self) -> None:
        """Give the file its name if it is complete."""
        complete = bool(self.file["done"][:].all())
        self.file.close()
        if complete:
            os.replace(self.part, self.path)


def find_videos(folder: Path, clips: Sequence[Clip]) -> list[Path]:
    """The file of every clip, anywhere below the folder.

    Raises:
        FileNotFoundError: saying how many there are not.
    """
    paths = {path.stem: path for path in sorted(folder.rglob("*.avi"))}
    missing = [clip.name for clip in clips if clip.name not in paths]
    if missing:
        raise FileNotFoundError(f"{len(missing)} listed videos are missing, e.g. {missing[0]}.avi")
    return [paths[clip.name] for clip in clips]


def extract_part(
    clips: Sequence[Clip],
    videos: Path,
    out: Path,
    part: str,
    split: int,
    networks: tuple[nn.Module, nn.Module],
    method: FlowMethod = "dis",
) -> None:
    """Write both streams' files of the training or test part of a split, if they are not there."""
    targets = {s: out / f"{file_name(part, s, split)}.h5" for s in ("spatial", "temporal")}
    if all(target.exists() for target in targets.values()):
        return
    paths = find_videos(videos, clips)
    out.mkdir(parents=True, exist_ok=True)
    writers: dict[str, FeatureWriter] = {}
    for row, path in enumerate(paths):
        if writers and all(writer.has(row) for writer in writers.values()):
            continue
        features = video_features(sample_video(path, method), *networks)
        for stream, feats in features.items():
            if stream not in writers:
                writers[stream] = FeatureWriter(targets[stream], clips, len(feats))
            writers[stream].write(row, feats)
        log.info("%s split %d: %d of %d videos", part, split, row + 1, len(paths))
    for writer in writers.values():
        writer.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--dataset", choices=["ucf101", "hmdb51"], required=True)
    parser.add_argument("--videos", type=Path, required=True, help="folder with the .avi files")
    parser.add_argument("--lists", type=Path, required=True, help="folder with the split lists")
    parser.add_argument("--out", type=Path, required=True, help="folder for the features")
    parser.add_argument("--split", type=int, choices=[1, 2, 3], default=1)
    parser.add_argument("--flow", choices=["dis", "tvl1"], default="dis")
    parser.add_argument("--spatial-network", default="microsoft/resnet-101")
    parser.add_argument("--temporal-network", default="microsoft/resnet-101")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    networks = (
        load_backbone(options.spatial_network, 3).to(options.device),
        load_backbone(options.temporal_network, 2 * STACK).to(options.device),
    )
    parts = splits_of(options.dataset, options.lists, options.split)
    for part, clips in zip(("train", "test"), parts, strict=True):
        extract_part(
            clips, options.videos, options.out, part, options.split, networks, options.flow
        )


if __name__ == "__main__":
    main()
