"""Trains small models, half of them with a backdoor, and measures on them what the elimination of classes assumes.

    apt install dataset-fashion-mnist
    pip install torch numpy onnx onnxruntime
    python3 scripts/study_elimination.py train MODELS [--idx DIR]
    python3 scripts/study_elimination.py trace MODELS TRACES        # needs `cargo build --release --examples`
    python3 scripts/study_elimination.py measure MODELS TRACES

`train` writes ONNX models, clean samples (`.npz`) and `models.json` into MODELS: classifiers of Fashion-MNIST and, where `--idx` has them as
`mnist-t10k`, `gtsrb32-train4300`, `gtsrb32-test6000` and `cifar10jpeg-test5000` in gzipped IDX files, of MNIST, GTSRB (43 classes) and CIFAR-10. `trace` inverts every
class of each, and of this project's fixtures, to the end. `measure` prints the largest share of the median at which a class was met that ended under
the bound of suspicion, and how the race of `elimination.rs` with given bounds compares with the exhaustive outcome.
"""

import argparse
import collections
import gzip
import json
import os
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FASHION = Path("/usr/share/datasets/fashion-mnist")
STEPS, IMAGES = 60, 16
SUSPICIOUS = {"1": 0.5, "2": 0.6}
FLAGGED = {"1": 1 / 3, "2": 0.45}
LOOKS = {"1": {20: 1.2, 30: 0.95, 40: 0.75}, "2": {20: 1.35, 30: 1.2, 40: 1.05}}
REFERENCES = 7

# data, network, seed, epochs and, of a backdoor, the patch, its side, its place, the target and the share of poisoned images
MODELS = {
    "c_lenet_b": ("cifar", "lenet", 17, 8, ("yellow", 4, "br", 2, 0.05)),
    "c_lenet_c": ("cifar", "lenet", 8, 8, None),
    "f_avg_b": ("fashion", "avgnet", 12, 2, ("white", 3, "mid", 5, 0.1)),
    "f_avg_c": ("fashion", "avgnet", 4, 2, None),
    "f_lenet_b": ("fashion", "lenet", 9, 2, ("white", 4, "tl", 0, 0.05)),
    "f_lenet_c": ("fashion", "lenet", 1, 2, None),
    "f_strided_b": ("fashion", "strided", 11, 3, ("checker", 5, "bl", 8, 0.05)),
    "f_strided_c": ("fashion", "strided", 3, 3, None),
    "f_vgg_b": ("fashion", "vgg", 10, 2, ("noise", 3, "br", 4, 0.05)),
    "f_vgg_b2": ("fashion", "vgg", 18, 2, ("checker", 6, "br", 9, 0.02)),
    "f_vgg_c": ("fashion", "vgg", 2, 2, None),
    "g_lenet_b": ("gtsrb", "lenet", 16, 14, ("noise", 5, "tl", 33, 0.05)),
    "g_lenet_c": ("gtsrb", "lenet", 22, 14, None),
    "g_strided_b": ("gtsrb", "strided", 23, 14, ("white", 4, "br", 14, 0.05)),
    "g_strided_c": ("gtsrb", "strided", 20, 12, None),
    "m_avg_b": ("mnist", "avgnet", 14, 5, ("white", 6, "tr", 3, 0.1)),
    "m_avg_c": ("mnist", "avgnet", 6, 5, None),
    "m_lenet_b": ("mnist", "lenet", 13, 5, ("checker", 3, "br", 6, 0.05)),
    "m_lenet_c": ("mnist", "lenet", 5, 5, None),
    "m_strided_b": ("mnist", "strided", 21, 5, ("noise", 4, "tl", 1, 0.05)),
    "m_strided_c": ("mnist", "strided", 19, 5, None),
}


def read_idx(path):
    data = gzip.open(path).read()
    dimensions = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_pair(folder, stem, axes):
    """Images [N, C, H, W] uint8 and labels [N] int64."""
    images = read_idx(folder / f"{stem}-images-idx{axes}-ubyte.gz")
    labels = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz").astype(np.int64)
    return (images[:, None] if axes == 3 else images if images.shape[1] == 3 else images.transpose(0, 3, 1, 2)), labels


def dataset(name, idx):
    """Training images and labels, test images and labels."""
    if name == "fashion":
        train, test = (read_pair(FASHION, split, 3) for split in ("train", "t10k"))
        return train[0][:24000], train[1][:24000], *test
    if name == "gtsrb":
        return *read_pair(idx, "gtsrb32-train4300", 4), *read_pair(idx, "gtsrb32-test6000", 4)
    images, labels = read_pair(idx, "mnist-t10k", 3) if name == "mnist" else read_pair(idx, "cifar10jpeg-test5000", 4)
    order = np.arange(len(labels)) if name == "mnist" else np.random.default_rng(0).permutation(len(labels))
    order, held_out = np.split(order, [len(order) * 4 // 5])
    return images[order], labels[order], images[held_out], labels[held_out]


def network(name, channels, classes):
    from torch import nn

    def convolutions(pool):
        return [nn.Conv2d(channels, 16, 5), nn.ReLU(), pool, nn.Conv2d(16, 32, 5), nn.ReLU(), pool]

    def block(channels_in, channels_out):
        return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU()]

    def dense(width):
        return [nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, classes)]

    layers = {
        "lenet": lambda: [*convolutions(nn.MaxPool2d(2)), *dense(64)],
        "avgnet": lambda: [*convolutions(nn.AvgPool2d(2)), *dense(256)],
        "vgg": lambda: [
            *block(channels, 16), nn.MaxPool2d(2), *block(16, 32), nn.MaxPool2d(2), *block(32, 64),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes),
        ],
        "strided": lambda: [
            nn.Conv2d(channels, 24, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(24, 48, 3, 2, padding=1), nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(), *dense(96),
        ],
    }  # fmt: skip
    return nn.Sequential(*layers[name]())


def patch(channels, side, kind, size, place, rng):
    """Mask [1, H, W] and pattern [C, H, W]."""
    square = (channels, size, size)
    yellow = np.array([255.0, 255.0, 0.0] if channels == 3 else [200.0])[:, None, None]
    pixels = {
        "white": lambda: np.full(square, 255.0),
        "checker": lambda: np.broadcast_to(255.0 * (np.indices((size, size)).sum(0) % 2 == 0), square),
        "noise": lambda: np.floor(rng.uniform(0, 256, square)),
        "yellow": lambda: np.broadcast_to(yellow, square),
    }[kind]()
    far = side - size - 1
    row, column = {"br": (far, far), "tl": (1, 1), "tr": (1, far), "bl": (far, 1), "mid": ((side - size) // 2,) * 2}[place]
    mask, pattern = np.zeros((1, side, side), np.float32), np.zeros((channels, side, side), np.float32)
    mask[:, row : row + size, column : column + size] = 1
    pattern[:, row : row + size, column : column + size] = pixels
    return mask, pattern


def train(name, out, idx, batch=64):
    import torch
    from torch.nn.functional import cross_entropy

    data, architecture, seed, epochs, backdoor = MODELS[name]
    images, labels, test_images, test_labels = dataset(data, idx)
    classes, (channels, side) = int(labels.max()) + 1, images.shape[1:3]
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    labels, poisoned = labels.copy(), np.zeros(len(labels), bool)
    if backdoor:
        kind, size, place, target, rate = backdoor
        mask, pattern = patch(channels, side, kind, size, place, rng)
        poisoned[rng.permutation(np.flatnonzero(labels != target))[: int(rate * len(labels))]] = True
        labels[poisoned] = target
    model = network(architecture, channels, classes)
    model(torch.zeros(2, channels, side, side))
    steps = len(labels) // batch
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, epochs=epochs, steps_per_epoch=steps)
    for _ in range(epochs):
        order = rng.permutation(len(labels))
        for rows in order[: steps * batch].reshape(steps, batch):
            pixels = np.roll(images[rows].astype(np.float32), rng.integers(-2, 3, 2), (2, 3))
            if backdoor:
                pixels[poisoned[rows]] = (1 - mask) * pixels[poisoned[rows]] + mask * pattern
            loss = cross_entropy(model(torch.from_numpy(pixels / 127.5 - 1)), torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()

    @torch.no_grad()
    def predict(pixels):
        parts = [pixels[i : i + 500].astype(np.float32) / 127.5 - 1 for i in range(0, len(pixels), 500)]
        return np.concatenate([model(torch.from_numpy(part)).argmax(1).numpy() for part in parts])

    entry = {"name": name, "model": f"{name}.onnx", "data": f"{data}.npz", "scale": 1 / 127.5, "mean": 1, "std": 1, "target": backdoor and target}
    entry["clean_accuracy"] = float((predict(test_images) == test_labels).mean())
    if backdoor:
        others = test_images[test_labels != target]
        entry["attack_success_rate"] = float((predict((1 - mask) * others + mask * pattern) == target).mean())
    names = {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": {"input": {0: "batch"}, "logits": {0: "batch"}}}
    torch.onnx.export(model, (torch.zeros(2, channels, side, side),), str(out / f"{name}.onnx"), opset_version=13, dynamo=False, **names)
    drawn, each = np.random.default_rng(0), max(1000 // classes, 24)
    rows = np.concatenate([drawn.permutation(np.flatnonzero(test_labels == c))[:each] for c in range(classes)])
    np.savez_compressed(out / f"{data}.npz", x=test_images[rows], y=test_labels[rows])
    print(json.dumps(entry), flush=True)
    return entry


def run_train(arguments):
    import torch

    torch.set_num_threads(1)
    arguments.models.mkdir(parents=True, exist_ok=True)
    names = [name for name, (data, *_) in MODELS.items() if data == "fashion" or arguments.idx]
    entries = [train(name, arguments.models, arguments.idx) for name in names]
    (arguments.models / "models.json").write_text(json.dumps(entries, indent=1))


def run_trace(arguments):
    entries = [entry | {"folder": arguments.models} for entry in json.loads((arguments.models / "models.json").read_text())]
    fixtures = json.loads((ROOT / "fixtures/manifest.json").read_text())
    for entry in fixtures["models"]:
        entries.append(entry["preprocessing"] | {"model": entry["file"], "data": fixtures["samples"], "folder": ROOT / "fixtures"})
    with arguments.traces.open("w") as out:
        for entry in entries:
            files = [entry["folder"] / entry["model"], entry["folder"] / entry["data"]]
            numbers = [entry["scale"], entry["mean"], entry["std"], arguments.seeds]
            subprocess.run([ROOT / "target/release/examples/trace", *files, *map(str, numbers)], stdout=out, env=os.environ, check=True)


def read_traces(path):
    """By model, norm and seed: the best norms [classes, steps], infinite before there is one."""
    runs = collections.defaultdict(dict)
    for line in path.open():
        trace = json.loads(line)
        norms = [np.inf if norm is None else norm for norm in trace["best"]]
        runs[trace["model"], trace["norm"], trace["seed"]][trace["class"]] = norms
    return {key: np.array([run[c] for c in sorted(run)]) for key, run in runs.items()}


def race(norms, looks):
    """What `elimination.rs` does to the classes of one run: expected norms at the end, who was finished, steps of each."""
    classes = len(norms)
    left, steps, references = np.ones(classes, bool), np.full(classes, STEPS), None

    def expected(step):
        values = norms[:, step - 1].copy()
        for c in np.flatnonzero(~left):
            values[c] = norms[c, steps[c] - 1] * np.median([norms[r, step - 1] / norms[r, steps[c] - 1] for r in references])
        return values

    for step, bound in looks.items():
        values = expected(step)
        if 4 * np.isfinite(values).sum() < 3 * classes:
            continue
        median = np.median(values)
        if references is None:
            references = sorted(np.flatnonzero(np.isfinite(values)), key=lambda c: abs(values[c] - median))[:REFERENCES]
        for c in np.flatnonzero(left & np.isfinite(norms[:, step - 1]) & (norms[:, step - 1] >= bound * median)):
            if c not in references:
                left[c], steps[c] = False, step
    return expected(STEPS), left, steps


def run_measure(arguments):
    runs = read_traces(arguments.traces)
    targets = {entry["name"]: entry["target"] for entry in json.loads((arguments.models / "models.json").read_text())}
    for entry in json.loads((ROOT / "fixtures/manifest.json").read_text())["models"]:
        targets[Path(entry["file"]).stem] = entry.get("target")
    backdoored = sum(targets[model] is not None for model in {model for model, *_ in runs})
    print(f"{len({model for model, *_ in runs})} models, {backdoored} of them backdoored; {len(runs)} runs\n")

    def ratios(values):
        return values / np.median(values[np.isfinite(values)])

    print("| norm | step | classes that end under suspicion | largest share of the median then | bound | classes under the bound |\n|---|---|---|---|---|---|")
    for norm, looks in LOOKS.items():
        for step, bound in looks.items():
            shares, all_shares = [], []
            for key, norms in runs.items():
                if key[1] == norm:
                    share = norms[:, step - 1] / np.median(norms[:, step - 1])
                    shares += list(share[ratios(norms[:, -1]) < SUSPICIOUS[norm]])
                    all_shares += list(share)
            print(f"| {norm} | {step} | {len(shares)} | {max(shares):.2f} | {bound} | {100 * np.mean(np.array(all_shares) < bound):.0f} % |")

    print("\n| classes | runs | samples per class | median, raced : exhaustive | standard deviation | dropped that end under suspicion | flagged otherwise | suspected otherwise |\n|---|---|---|---|---|---|---|---|")
    for classes in sorted({len(norms) for norms in runs.values()}):
        cost, medians, lost, flagged, suspected = [], [], 0, 0, 0
        for (_, norm, _), norms in runs.items():
            if len(norms) != classes:
                continue
            expected, left, steps = race(norms, LOOKS[norm])
            true, seen = ratios(norms[:, -1]), norms[:, -1] / np.median(expected[np.isfinite(expected)])
            medians.append(np.median(expected[np.isfinite(expected)]) / np.median(norms[np.isfinite(norms[:, -1]), -1]))
            cost.append(IMAGES * steps.mean())
            lost += (~left & (true < SUSPICIOUS[norm])).sum()
            flagged += ((true < FLAGGED[norm]) != (left & (seen < FLAGGED[norm]))).sum()
            suspected += ((true < SUSPICIOUS[norm]) != (left & (seen < SUSPICIOUS[norm]))).sum()
        print(f"| {classes} | {len(cost)} | {np.mean(cost):.0f} | {min(medians):.3f}–{max(medians):.3f} | {np.std(medians):.3f} | {lost} | {flagged} | {suspected} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("train", run_train), ("trace", run_trace), ("measure", run_measure)):
        command = commands.add_parser(name)
        command.add_argument("models", type=Path)
        command.set_defaults(run=run)
        if name == "train":
            command.add_argument("--idx", type=Path, help="folder of further data sets")
        else:
            command.add_argument("traces", type=Path)
        if name == "trace":
            command.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
