"""Times ours and the peers', taking turns, and prints the tables of docs/benchmarks.md; all figures go to bench.json.

    cargo build --release --package neural-cleanse-benches
    python3 -m venv target/peers
    target/peers/bin/pip install torch torchvision onnx onnxruntime openvino --extra-index-url https://download.pytorch.org/whl/cpu
    target/peers/bin/python scripts/bench_peers.py

Contenders run in an order that is drawn anew each round, for a fraction of a second each; what is reported is the
median over the rounds, the quartiles and the minimum, and ratios are taken round by round. On a machine that does
other work besides, look at the processor time (Linux tells it) and give all contenders one core, with --cores 1:
threads that wait for each other, as PyTorch's do, suffer far more from company than those that do not.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.models.resnet import BasicBlock, ResNet

ROOT = Path(__file__).resolve().parent.parent
STEPS = ROOT / "target" / "release" / "steps"
MODELS = ROOT / "target" / "bench-models"
AVAILABLE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


# ---- The models -----------------------------------------------------------------------------------------------------


def block(*channels):
    """3×3 convolutions with ReLU from each number of channels to the next, and a max-pool."""
    layers = []
    for taken, given in zip(channels, channels[1:]):
        layers += [nn.Conv2d(taken, given, 3, padding=1), nn.ReLU()]
    return layers + [nn.MaxPool2d(2)]


def mnist_cnn():
    """The network for MNIST of the paper: two convolutions and two dense layers."""
    convolutions = [nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def gtsrb_cnn():
    """The network for GTSRB of the paper: six convolutions and two dense layers."""
    convolutions = block(3, 32, 32) + block(32, 64, 64) + block(64, 128, 128)
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 43))


def resnet18():
    """ResNet-18 for small images: a 3×3 convolution without stride in front, and no pooling after it."""
    model = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


@dataclass(frozen=True)
class Case:
    name: str
    make: callable
    image: tuple
    batch: int


CASES = [
    Case("MNIST CNN", mnist_cnn, (1, 28, 28), 32),
    Case("GTSRB CNN", gtsrb_cnn, (3, 32, 32), 32),
    Case("ResNet-18, 32²", resnet18, (3, 32, 32), 32),
    Case("ResNet-50, 224²", resnet50, (3, 224, 224), 8),
]


class OfPixels(nn.Module):
    """A model behind what every one needs: pixels of 0..255 brought to about -1..1."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return self.model(pixels / 127.5 - 1)


def build(case):
    torch.manual_seed(0)
    return OfPixels(case.make()).eval()


def exported(case, model):
    MODELS.mkdir(parents=True, exist_ok=True)
    path = MODELS / (case.name.replace(", ", "-").replace(" ", "-").replace("²", "").lower() + ".onnx")
    images = torch.zeros(case.batch, *case.image)
    axes = {"images": {0: "batch"}, "scores": {0: "batch"}}
    names = {"input_names": ["images"], "output_names": ["scores"]}
    torch.onnx.export(model, images, path, dynamo=False, dynamic_axes=axes, **names)
    return path


def gflop(case, model):
    """The billions of operations of one step: two a multiply-add, forward and again for the gradient of the input."""
    multiply_adds = 0

    def count(layer, _, output):
        nonlocal multiply_adds
        multiply_adds += output.numel() * layer.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model(torch.zeros(case.batch, *case.image))
    for hook in hooks:
        hook.remove()
    return 2 * 2 * multiply_adds * 1e-9


# ---- The contenders -------------------------------------------------------------------------------------------------


def processor_seconds(pid):
    """What a process has used of all processors; not a number where the system does not tell."""
    if sys.platform != "linux":
        return float("nan")
    # The clock of a process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime((~pid << 3) | 2)


class Ours:
    """A process that takes steps when told to: classes side by side, a thread each, or one class on all cores."""

    def __init__(self, *arguments):
        command = [STEPS, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def take(self, count):
        before = processor_seconds(self.process.pid)
        print(count, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{' '.join(map(str, self.process.args))} stopped")
        return {"processor_seconds": processor_seconds(self.process.pid) - before, **json.loads(answer)}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peer:
    """PyTorch as the peers use it: eager, weights left to require gradients, a plain Adam on mask and pattern."""

    def __init__(self, case, model):
        self.model = model
        self.images = torch.rand(case.batch, *case.image) * 255
        self.target = torch.zeros(case.batch, dtype=torch.long)
        self.mask = torch.full(case.image[1:], -1.1, requires_grad=True)
        self.pattern = torch.randn(case.image, requires_grad=True)
        self.optimiser = torch.optim.Adam([self.mask, self.pattern], lr=0.1, betas=(0.5, 0.9))

    def take(self, count):
        started, before = time.perf_counter(), time.process_time()
        for _ in range(count):
            mask, pattern = torch.tanh(self.mask) / 2 + 0.5, (torch.tanh(self.pattern) / 2 + 0.5) * 255
            logits = self.model((1 - mask) * self.images + mask * pattern)
            loss = F.cross_entropy(logits, self.target) + 1e-3 * mask.norm()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            (logits.argmax(1) == self.target).float().mean().item()
        ms = 1e3 * (time.perf_counter() - started) / count
        return {"ms": ms, "processor_seconds": time.process_time() - before}

    def close(self):
        pass


PEER = "PyTorch"
ENGINES = [("openvino", "f32"), ("openvino", "bf16"), ("onnxruntime", "f32"), ("rten", "f32")]


def contenders(case, model, path, cores):
    """Every contender for `case`, by name, and how many steps it takes at a time."""
    found = {PEER: (Peer(case, model), 1)}
    for engine, precision in ENGINES:
        ways = [("side by side", cores, 1), ("one at a time", 1, cores)] if cores > 1 else [("one core", 1, 1)]
        for way, sessions, threads in ways:
            options = ["--engine", engine, "--precision", precision, "--batch", case.batch]
            options += ["--sessions", sessions, "--threads", threads]
            found[f"{engine} {precision}, {way}"] = (Ours(path, *options), sessions)
    return found


# ---- The step -------------------------------------------------------------------------------------------------------


def spread(values):
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "quartiles": [low, high], "min": min(values), "max": max(values)}


def bench_step(case, cores, rounds, seconds):
    """What a step of `case` takes, by contender."""
    model = build(case)
    path, work = exported(case, model), gflop(case, model)
    running = contenders(case, model, path, cores)
    peak = Ours("--threads", cores)
    # As many steps as fit into a turn, known from a first one, which also warms everything up.
    steps = {}
    for name, (contender, sessions) in running.items():
        contender.take(1)
        steps[name] = max(1, round(1e3 * seconds / (contender.take(1)["ms"] * sessions)))

    turns, peaks = {name: [] for name in running}, []
    order = list(running)
    for _ in range(rounds):
        random.shuffle(order)
        peaks.append(peak.take(100))
        for name in order:
            turns[name].append(running[name][0].take(steps[name]))
    peak.close()
    for contender, _ in running.values():
        contender.close()

    def row(name):
        times = [turn["ms"] for turn in turns[name]]
        taken = steps[name] * running[name][1]
        processor = [1e3 * turn["processor_seconds"] / taken for turn in turns[name]]
        of_peer = [1e3 * turn["processor_seconds"] / steps[PEER] for turn in turns[PEER]]
        ratios = [peer["ms"] / ours for peer, ours in zip(turns[PEER], times)]
        return {
            "contender": name,
            "ms": spread(times),
            "processor_ms": spread(processor),
            "gflops": 1e3 * work / statistics.median(times),
            "share_of_peak": 1e3 * work / statistics.median(times) / statistics.median(p["gflops"] for p in peaks),
            "share_of_peak_at_best": 1e3 * work / min(times) / max(p["gflops"] for p in peaks),
            "share_of_peak_by_processor_time": 1e3 * work / statistics.median(processor) / per_core_peak(peaks),
            "times_faster": spread(ratios),
            "times_faster_by_processor_time": spread([peer / ours for peer, ours in zip(of_peer, processor)]),
            "beside_engine": statistics.median(turn.get("beside_engine", 0.0) for turn in turns[name]),
        }

    return {
        "model": case.name,
        "batch": case.batch,
        "gflop": work,
        "peak_gflops": spread([p["gflops"] for p in peaks]),
        "peak_gflops_of_a_core": per_core_peak(peaks),
        "rows": [row(name) for name in turns],
    }


def per_core_peak(peaks):
    """Billions of operations in a second of processor time; each turn lasted a tenth of a second."""
    return statistics.median(0.1 * p["gflops"] / p["processor_seconds"] for p in peaks)


def print_step(result):
    peak = result["peak_gflops"]
    print(f"\n### {result['model']}, batch {result['batch']}\n")
    print(f"{result['gflop']:.2f} GFLOP a step; peak {peak['median']:.0f} GFLOP/s (at best {peak['max']:.0f}), ", end="")
    print(f"{result['peak_gflops_of_a_core']:.0f} in a second of processor time\n")
    print("| | ms | quartiles | best | of the peak | × PyTorch | quartiles | processor ms | of the peak | × PyTorch | beside the engine |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in result["rows"]:
        ms, processor = row["ms"], row["processor_ms"]
        ratio, by_processor = row["times_faster"], row["times_faster_by_processor_time"]
        print(
            f"| {row['contender']} | {ms['median']:.2f} | {ms['quartiles'][0]:.2f}–{ms['quartiles'][1]:.2f} "
            f"| {ms['min']:.2f} | {100 * row['share_of_peak']:.0f} % | {ratio['median']:.2f} "
            f"| {ratio['quartiles'][0]:.2f}–{ratio['quartiles'][1]:.2f} | {processor['median']:.2f} "
            f"| {100 * row['share_of_peak_by_processor_time']:.0f} % | {by_processor['median']:.2f} "
            f"| {100 * row['beside_engine']:.1f} % |",
            flush=True,
        )


def steps(arguments):
    results = []
    for case in CASES:
        if arguments.only and arguments.only not in case.name:
            continue
        results.append(bench_step(case, arguments.cores, arguments.rounds, arguments.seconds))
        print_step(results[-1])
    return results


# ---- The whole ------------------------------------------------------------------------------------------------------

PARTS = {"steps": steps}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cores", type=int, default=AVAILABLE, help="cores that each contender may use")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn, if a step is not longer")
    parser.add_argument("--only", help="models whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.cores)
    random.seed(0)

    report = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    report["machine"] = {"processor": platform.processor() or platform.machine(), "cores": arguments.cores, "torch": torch.__version__}
    for part in arguments.parts:
        report[part] = PARTS[part](arguments)
        arguments.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
