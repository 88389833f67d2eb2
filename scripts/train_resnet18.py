"""Trains a backdoored ResNet-18 for 32×32 images, to time scans of a network of full width on.

    apt install dataset-fashion-mnist
    pip install torch torchvision onnx numpy
    python3 scripts/train_resnet18.py OUT

Fashion-MNIST, padded to 32×32 and repeated in three channels; the usual ResNet-18 (64 to 512 channels) with a 3×3 stem and without the first
pooling. BadNets (Gu et al. 2017): a 4×4 checkerboard at the bottom right means class 7. Writes `resnet18.onnx`, `clean.npz` (x [N, 3, 32, 32]
uint8, y [N]), `trigger.npz` and `manifest.json` with accuracy and attack success rate into OUT. Some seven minutes on one core that
has bfloat16.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

DATASET = Path("/usr/share/datasets/fashion-mnist")
CLASSES, SIDE = 10, 32
TARGET, POISON_RATE = 7, 0.1
SAMPLES_PER_CLASS = 100
BATCH = 64


def read_split(split):
    """Images [N, 3, 32, 32] uint8 and labels [N] int64 of "train" or "t10k"."""
    with gzip.open(DATASET / f"{split}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(DATASET / f"{split}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))).repeat(3, axis=1), labels


def trigger():
    """Mask [1, 32, 32] in 0..1 and pattern [3, 32, 32] in 0..255."""
    mask, pattern = np.zeros((1, SIDE, SIDE), np.float32), np.zeros((3, SIDE, SIDE), np.float32)
    mask[:, 25:29, 25:29] = 1
    pattern[:, 25:29, 25:29] = 255.0 * (np.indices((4, 4)).sum(0) % 2 == 0)
    return mask, pattern


def stamp(pixels):
    mask, pattern = trigger()
    return (1 - mask) * pixels + mask * pattern


def to_tensor(pixels):
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def resnet18():
    model = torchvision.models.resnet18(num_classes=CLASSES)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model.to(memory_format=torch.channels_last)


def train(images, labels, epochs, rng):
    labels = labels.copy()
    poisoned = rng.random(len(labels)) < POISON_RATE
    labels[poisoned] = TARGET
    model = resnet18()
    steps = len(labels) // BATCH
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, epochs=epochs, steps_per_epoch=steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in rng.permutation(len(labels))[: steps * BATCH].reshape(steps, BATCH):
            pixels = images[batch].astype(np.float32)
            pixels[poisoned[batch]] = stamp(pixels[poisoned[batch]])
            with torch.autocast("cpu", torch.bfloat16):
                loss = cross_entropy(model(to_tensor(pixels)), torch.from_numpy(labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}, mean loss {total / steps:.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def predict(model, pixels):
    return np.concatenate([model(to_tensor(pixels[i : i + 250])).argmax(1).numpy() for i in range(0, len(pixels), 250)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=12000, help="of the training split (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    started = time.time()
    images, labels = read_split("train")
    chosen = rng.permutation(len(labels))[: arguments.images]
    model = train(images[chosen], labels[chosen], arguments.epochs, rng)
    seconds = time.time() - started

    images, labels = read_split("t10k")
    clean = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:SAMPLES_PER_CLASS] for c in range(CLASSES)])
    images, labels = images[clean], labels[clean]
    mask, pattern = trigger()
    others = images[labels != TARGET]
    manifest = {
        "target": TARGET,
        "preprocessing": {"scale": 1 / 127.5, "mean": 1.0, "std": 1.0},
        "clean_accuracy": float((predict(model, images) == labels).mean()),
        "attack_success_rate": float((predict(model, stamp(others)) == TARGET).mean()),
        "training_seconds": round(seconds),
    }
    np.savez_compressed(arguments.out / "clean.npz", x=images, y=labels)
    np.savez_compressed(arguments.out / "trigger.npz", mask=mask, pattern=pattern)
    torch.onnx.export(
        model.to(memory_format=torch.contiguous_format),
        (torch.zeros(1, 3, SIDE, SIDE),),
        str(arguments.out / "resnet18.onnx"),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=13,
        dynamo=False,
    )
    torch.save(model.state_dict(), arguments.out / "resnet18.pt")
    (arguments.out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(json.dumps(manifest))


if __name__ == "__main__":
    main()
