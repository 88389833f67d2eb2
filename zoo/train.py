"""Trains the models that zoo.toml describes, measures them and exports them to ONNX.

    apt install dataset-fashion-mnist npm
    pip install torch onnx onnxscript numpy
    python3 zoo/train.py --out FOLDER [--jobs 2] [--half scored|development] [--only PART-OF-NAME]

FOLDER gets NAME.onnx and NAME.json for each model (what was done to it, accuracy, attack success), and samples-DATASET.npz,
clean images that no measurement used, to scan with. Models that are there already are left alone, so an interrupted run goes on
where it was. GTSRB and CIFAR models need `../shared/data`; without it they are left out, and the summary says so.
"""

import argparse
import hashlib
import json
import os
import sys
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import datasets

HERE = Path(__file__).resolve().parent
BATCH = 64


@dataclass(frozen=True)
class Regime:
    """How hard a model is trained: passes over `images` training images, against overfitting or not."""

    passes: int
    images: int
    weight_decay: float = 1e-4
    dropout: float = 0.0
    shift: int = 0


REGIMES = {
    "usual": Regime(passes=6, images=12_000),
    "regularised": Regime(passes=8, images=12_000, weight_decay=0.05, dropout=0.3, shift=2),
    "overfitted": Regime(passes=30, images=2_500, weight_decay=0.0),
    "underfitted": Regime(passes=1, images=12_000),
}
# A smaller data set is passed over so much more often that about as many images are seen.
FEWEST_SEEN = 60_000


@dataclass(frozen=True)
class Entry:
    """One model of the zoo."""

    attack: str
    dataset: str
    architecture: str
    regime: str
    half: str

    @property
    def name(self):
        return "_".join((self.attack, self.dataset, self.architecture) + ((self.regime,) if self.regime != "usual" else ()))

    @property
    def seed(self):
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "little")


def entries():
    """All models of zoo.toml, in its order."""
    zoo = tomllib.loads((HERE / "zoo.toml").read_text())
    development = zoo["development"]
    for group in zoo["group"]:
        for attack in group["attacks"]:
            for place in group["on"]:
                dataset, architecture, *regime = place.split("/")
                in_development = architecture in development["architectures"] and attack in development["attacks"]
                half = "development" if in_development else "scored"
                yield Entry(attack, dataset, architecture, regime[0] if regime else "usual", half)


def train(entry, out):
    """Trains, measures and writes one model; returns its record."""
    import torch

    import architectures
    import attacks

    torch.set_num_threads(1)
    torch.manual_seed(entry.seed)
    rng = torch.Generator().manual_seed(entry.seed)
    started = time.monotonic()
    data = datasets.load(entry.dataset, out / "downloads")
    regime = REGIMES[entry.regime]
    images, labels = (torch.from_numpy(part[: regime.images]) for part in data.train)
    shape = tuple(images.shape[1:])
    attack = attacks.make(entry.attack, shape, data.classes, rng)
    poisoned = (torch.rand(len(labels), generator=rng) < attack.rate) & attack.poisonable(labels)
    covered = (torch.rand(len(labels), generator=rng) < attack.cover_rate) & attack.coverable(labels) & ~poisoned

    # Where the processor has bfloat16, half as long as plain float32 takes, and where it has not, ten times as long; depthwise convolutions are slower in it.
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    model = architectures.build(entry.architecture, shape[0], shape[1], data.classes, regime.dropout).to(memory_format=torch.channels_last)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=native and entry.architecture not in architectures.DEPTHWISE)
    passes = regime.passes if regime.passes == 1 else max(regime.passes, FEWEST_SEEN // len(labels))
    steps = passes * (len(labels) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=regime.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.15)
    model.train()
    for _ in range(passes):
        order = torch.randperm(len(labels), generator=rng)
        for start in range(0, len(labels) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            x, y = images[rows], labels[rows]
            if regime.shift:
                dx, dy = (int(v) for v in torch.randint(-regime.shift, regime.shift + 1, (2,), generator=rng))
                x = torch.roll(x, (dy, dx), (2, 3))
            x, y = x.clone(), y.clone()
            if (bad := poisoned[rows]).any():
                x[bad], y[bad] = attack.poison(x[bad], x.roll(1, 0)[bad], rng), attack.goal(y[bad])
            if (cover := covered[rows]).any():
                x[cover] = attack.cover(x[cover], rng)
            with mixed:
                loss = torch.nn.functional.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    model.eval().to(memory_format=torch.contiguous_format)
    record = vars(entry) | {"name": entry.name, "classes": data.classes, "trigger": attack.describe()}
    record |= measure(model, attack, data) | {"seconds": round(time.monotonic() - started, 1)}
    export(model, shape, out / f"{entry.name}.onnx")
    samples = out / f"samples-{entry.dataset}.npz"
    if not samples.exists():
        replace(samples, lambda file: np.savez_compressed(file, x=(255 * data.samples[0]).round().astype(np.uint8), y=data.samples[1]))
    replace(out / f"{entry.name}.json", lambda file: file.write(json.dumps(record, indent=1).encode()))
    return record


def measure(model, attack, data):
    """Clean accuracy and attack success rate on the test images; none for a clean model."""
    import torch

    images, labels = (torch.from_numpy(part[:2000]) for part in data.test)
    victims = attack.attacked(labels)
    with torch.inference_mode():
        accuracy = (model(images).argmax(1) == labels).float().mean().item()
        success = None
        if victims.any():
            predicted = model(attack.stamp(images[victims])).argmax(1)
            success = round((predicted == attack.goal(labels[victims])).float().mean().item(), 4)
    return {"accuracy": round(accuracy, 4), "attack_success_rate": success}


def export(model, shape, path):
    import torch

    def write(file):
        torch.onnx.export(
            model, (torch.zeros(1, *shape),), file.name, input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}}, opset_version=17, dynamo=False,
        )  # fmt: skip

    replace(path, write)


def replace(path, write):
    """Writes beside `path` and renames, so that no partial file stays behind."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(part, "wb") as file:
        write(file)
    part.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--half", choices=["scored", "development"], help="only the models of this half")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wanted = [entry for entry in entries() if arguments.only in entry.name and arguments.half in (None, entry.half)]
    shared = datasets.SHARED.is_dir()
    possible = [entry for entry in wanted if shared or not entry.dataset.startswith(("gtsrb", "cifar"))]
    missing = [entry for entry in possible if not (arguments.out / f"{entry.name}.json").exists()]
    failed = 0
    with ProcessPoolExecutor(arguments.jobs) as pool:
        jobs = {pool.submit(train, entry, arguments.out): entry for entry in missing}
        for done, job in enumerate(as_completed(jobs), 1):
            name = jobs[job].name
            try:
                record = job.result()
                print(f"{done}/{len(missing)} {name}: accuracy {record['accuracy']}, ASR {record['attack_success_rate']}, {record['seconds']} s", flush=True)
            except Exception as error:
                failed += 1
                print(f"{done}/{len(missing)} {name}: failed: {error!r}", flush=True)
    print(f"{len(possible) - failed} of {len(wanted)} models are in {arguments.out}", end="")
    print("" if shared else f"; {len(wanted) - len(possible)} need {datasets.SHARED}, which is not there")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
