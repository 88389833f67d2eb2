"""Times whole scans, ours and those of the peers' schedules in PyTorch, and prints the table of docs/scan-benchmarks.md.

    cargo build --release
    python3 scripts/train_resnet18.py target/resnet18            # some minutes
    python3 scripts/bench_scan.py --resnet18 target/resnet18 [--mnist MODEL.onnx IMAGES] --out bench-scan.json

Ours is the command from start to report. The peers are their schedules, with the minibatches of their authors, re-implemented in eager PyTorch as they
have it; of each only some minibatches are timed, in turns with ours, and the rest is extrapolated:

* official: minibatches of 32, 31 a step, until the early stop. It is run to that end for one class of the MNIST model (or
  57,900 samples a class are taken where there is no such model, or as many as --official-samples says); the same number of samples is taken for the other classes and models.
* TrojanZoo 2.0.3: 10 epochs over the training set in minibatches of 100; its early stop needs more epochs than that.
* BackdoorBench: minibatches of 256 from 5 % of the training set. Up to 80 epochs; 26, the fewest after which its early stop can fire, are taken.

Both training sets have 60,000 images. Wall-clock time means little on a machine that does other work besides: the ratio of processor times is given, too.
`--mnist` is a model of the form conv5x5x16-relu-avgpool2-conv5x5x32-relu-avgpool2-fc512-relu-fc10, of pixels brought to -1..1.
"""

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
CLASSES, TRAINING_SET = 10, 60000
PEERS = {"TrojanZoo": (100, 10 * TRAINING_SET), "BackdoorBench": (256, 26 * TRAINING_SET // 20)}


def mnist_network(path):
    import onnx
    from onnx import numpy_helper

    network = nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES),
    )  # fmt: skip
    graph = onnx.load(path).graph
    tensors = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    used = [tensors[name] for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul", "Add") for name in node.input if name in tensors]
    with torch.no_grad():
        for parameter, tensor in zip(network.parameters(), used, strict=True):
            parameter.copy_(tensor if tensor.shape == parameter.shape else tensor.T)
    return network.eval()


def resnet18(folder):
    import torchvision

    network = torchvision.models.resnet18(num_classes=CLASSES)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.load_state_dict(torch.load(folder / "resnet18.pt"))
    return network.eval()


class Peer:
    """The search for the trigger of one class, as the released code has it: eager, weights left to require gradients."""

    def __init__(self, network, images, batch, target=0):
        self.network, self.images, self.batch, self.target = network, images, batch, target
        shape = images.shape[1:]
        self.mask = torch.full(shape[1:], -1.0, requires_grad=True)
        self.pattern = torch.randn(shape, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.mask, self.pattern], lr=0.1, betas=(0.5, 0.9))

    def minibatch(self, cost):
        """One minibatch; the share of its images that goes to the target, and the norm of the mask."""
        rows = torch.randint(len(self.images), (self.batch,))
        mask, pattern = torch.tanh(self.mask) / 2 + 0.5, torch.tanh(self.pattern) / 2 + 0.5
        logits = self.network(((1 - mask) * self.images[rows] + mask * pattern) * 2 - 1)
        labels = torch.full((self.batch,), self.target)
        norm = mask.abs().sum()
        loss = F.cross_entropy(logits, labels) + cost * norm
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return (logits.argmax(1) == labels).float().mean().item(), norm.item()

    def to_the_early_stop(self, steps=1000, batches=31, patience=5, multiplier=1.5):
        """The official schedule; how many samples it took."""
        cost, ups, downs, sets, up, down, stale, best, seen = 0.0, 0, 0, 0, False, False, 0, float("inf"), float("inf")
        for step in range(1, steps + 1):
            results = [self.minibatch(cost) for _ in range(batches)]
            success = statistics.mean(share for share, _ in results) >= 0.99
            if success:
                best = min(best, statistics.mean(norm for _, norm in results))
            if best < float("inf"):
                stale = stale + 1 if best >= 0.99 * seen else 0
                seen = min(seen, best)
            if up and down and stale >= 5 * patience:
                return step * batches * self.batch
            sets = sets + 1 if cost == 0 and success else 0
            if sets >= patience:
                cost, ups, downs, up, down = 1e-3, 0, 0, False, False
            ups, downs = (ups + 1, 0) if success else (0, downs + 1)
            if ups >= patience:
                cost, ups, up = cost * multiplier, 0, True
            elif downs >= patience:
                cost, downs, down = cost / multiplier**1.5, 0, True
        return steps * batches * self.batch


def timed(work):
    started, before = time.perf_counter(), processor()
    result = work()
    return {"seconds": time.perf_counter() - started, "processor": processor() - before, "result": result}


def processor():
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def ours(model, data, more):
    with tempfile.TemporaryDirectory() as out:
        command = [ROOT / "target/release/neural-cleanse", "scan", model, "--data", data, "--scale", str(1 / 127.5), "--mean", "1", "--std", "1"]
        result = subprocess.run([*command, "--out", out, "--json", *more], capture_output=True, text=True)
        report = json.loads(result.stdout)
        return {"samples": report["gradient_samples"] / CLASSES, "verdict": report["verdict"], "flagged": report["flagged_classes"], "engine": report["engine"]["name"]}


def bench(name, network, images, scan, official_samples, rounds, seconds):
    """Seconds to a verdict for all classes, ours and the peers' by extrapolation, `rounds` times in turns."""
    schedules = {"official": (32, official_samples)} | PEERS
    peers = {peer: Peer(network, images, batch) for peer, (batch, _) in schedules.items()}
    counts = {}
    for peer, search in peers.items():
        search.minibatch(0.0)
        counts[peer] = max(1, round(seconds / timed(lambda: search.minibatch(0.0))["seconds"]))
    turns = []
    for _ in range(rounds):
        turn = {"ours": timed(scan)}
        for peer, (batch, samples) in schedules.items():
            part = timed(lambda: [peers[peer].minibatch(1e-3) for _ in range(counts[peer])])
            factor = CLASSES * samples / (counts[peer] * batch)
            turn[peer] = {"seconds": factor * part["seconds"], "processor": factor * part["processor"], "part": 1 / factor}
        turns.append(turn)

    result = turns[0]["ours"]["result"]
    print(f"\n### {name}\n\nOurs ({result['engine']}): {result['verdict']}, flagged {result['flagged']}\n")
    print("| | samples per class | timed part | seconds | processor seconds | × ours | × ours by processor time |\n|---|---|---|---|---|---|---|")
    for contender in turns[0]:
        samples = result["samples"] if contender == "ours" else schedules[contender][1]
        part = f"{100 * turns[0][contender].get('part', 1):.2g} %"

        def median(key):
            return statistics.median(turn[contender][key] for turn in turns)

        def ratio(key):
            return statistics.median(turn[contender][key] / turn["ours"][key] for turn in turns)

        print(f"| {contender} | {samples:.0f} | {part} | {median('seconds'):.1f} | {median('processor'):.1f} | {ratio('seconds'):.0f} | {ratio('processor'):.0f} |", flush=True)
    return {"name": name, "turns": turns, "official_samples": official_samples}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", nargs=2, type=Path, metavar=("MODEL", "IMAGES"))
    parser.add_argument("--resnet18", type=Path)
    parser.add_argument("--official-samples", type=int, help="a class; instead of running the official schedule to its early stop")
    parser.add_argument("--cores", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a peer's turn, if a minibatch is not longer")
    parser.add_argument("--out", type=Path, default=Path("bench-scan.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.cores)
    torch.manual_seed(0)
    samples, results = arguments.official_samples, []
    options = ["--threads", str(arguments.cores)]
    if arguments.mnist:
        model, data = arguments.mnist
        network, images = mnist_network(model), torch.rand(1000, 1, 28, 28)
        if samples is None:
            import gzip
            import numpy as np

            pixels = np.frombuffer(gzip.open(data).read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
            images = torch.from_numpy(pixels[:1000] / np.float32(255))
            samples = Peer(network, images, 32).to_the_early_stop()
            print(f"official schedule, class 0 of {model.name}: {samples} samples to its early stop", flush=True)
        results.append(bench(model.name, network, images, lambda: ours(model, data, options), samples, arguments.rounds, arguments.seconds))
    if arguments.resnet18:
        folder = arguments.resnet18
        scan = lambda: ours(folder / "resnet18.onnx", folder / "clean.npz", options)
        results.append(bench("ResNet-18, 32²", resnet18(folder), torch.rand(1000, 3, 32, 32), scan, samples or 57900, arguments.rounds, arguments.seconds))
    arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
