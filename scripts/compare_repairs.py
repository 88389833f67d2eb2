"""Compares the three repairs by ART's recipe with those of `neural-cleanse mitigate`: the table of docs/repair-compared.md.

    cargo build --release
    apt install python3-torch python3-venv dataset-fashion-mnist
    python3 -m venv --system-site-packages /tmp/compare
    /tmp/compare/bin/pip install onnx onnxruntime 'numpy<2'
    /tmp/compare/bin/python scripts/compare_repairs.py

Any torch will do (Debian's needs numpy 1). Without the Debian package dataset-fashion-mnist the 400 images of the
fixtures serve: 320 to repair with, 80 to measure on.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
METHODS = ["unlearning", "pruning", "filtering"]


@dataclass(frozen=True)
class Case:
    """A backdoored model, its true trigger (`mask` [1, H, W], `pattern` [C, H, W], 0..255) and clean images of its data set."""

    model: Path
    target: int
    mask: np.ndarray
    pattern: np.ndarray
    scale: float
    mean: float
    std: float
    images: np.ndarray
    labels: np.ndarray

    def normalise(self, pixels):
        return ((pixels * self.scale - self.mean) / self.std).astype(np.float32)


@dataclass(frozen=True)
class Measured:
    """How a model does on images that no repair has seen. Abstaining is neither a right answer nor the target class."""

    clean_accuracy: float
    attack_success_rate: float
    false_positives: float | None = None
    let_through: float | None = None


def fixture_cases():
    """The all-to-one backdoors of the fixtures."""
    if FASHION_MNIST.exists():
        images = read_idx(FASHION_MNIST / "t10k-images-idx3-ubyte.gz")[:, None]
        labels = read_idx(FASHION_MNIST / "t10k-labels-idx1-ubyte.gz")
    else:
        samples = np.load(FIXTURES / "fashion-mnist-400.npz")
        images, labels = samples["x"], samples["y"]
    for entry in json.loads((FIXTURES / "manifest.json").read_text())["models"]:
        if "target" in entry and "source" not in entry:
            trigger = np.load(FIXTURES / entry["trigger"])
            preprocessing = entry["preprocessing"]
            yield Case(
                FIXTURES / entry["file"], entry["target"], trigger["mask"], trigger["pattern"],
                preprocessing["scale"], preprocessing["mean"], preprocessing["std"], images, labels.astype(np.int64),
            )  # fmt: skip


def zoo_cases(zoo, data):
    """The all-to-one backdoors of a folder of models, whose manifest.json tells the trigger's (white) pixels."""
    stems = {"mnist": "mnist-t10k", "cifar10": "cifar10jpeg-test5000"}
    for entry in json.loads((zoo / "manifest.json").read_text()):
        if entry["status"] != "backdoored" or entry["dataset"] not in stems:
            continue
        [images] = data.glob(f"{stems[entry['dataset']]}-images-*")
        [labels] = data.glob(f"{stems[entry['dataset']]}-labels-*")
        channels, height, width = entry["input"]
        images = read_idx(images)
        images = images[:, None] if images.ndim == 3 else images
        images = images if images.shape[1] == channels else images.transpose(0, 3, 1, 2)
        mask = np.zeros((1, height, width), np.float32)
        mask[0][tuple(np.transpose(entry["trigger_pixels"]))] = 1
        yield Case(
            zoo / entry["file"], entry["target"], mask, np.full((channels, height, width), 255, np.float32),
            entry["pixel_scale"], entry["mean"], entry["std"], images, read_idx(labels).astype(np.int64),
        )  # fmt: skip


def read_idx(path):
    content = gzip.open(path).read()
    shape = np.frombuffer(content, ">u4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def stamp(pixels, mask, pattern):
    return (1 - mask) * pixels + mask * pattern


def measure(case, answer, images, labels):
    """`answer` gives, for normalised images, the classes and whether the model abstains."""
    classes, abstains = answer(case.normalise(images))
    others = labels != case.target
    attacked, attack_abstains = answer(case.normalise(stamp(images[others], case.mask, case.pattern)))
    accuracy = np.mean((classes == labels) & ~abstains)
    success = np.mean((attacked == case.target) & ~attack_abstains)
    if not abstains.any() and not attack_abstains.any():
        return Measured(accuracy, success)
    return Measured(accuracy, success, np.mean(abstains), 1 - np.mean(attack_abstains))


class Network(torch.nn.Module):
    """An ONNX classifier in PyTorch, for the operators of the models that are compared here."""

    def __init__(self, path):
        super().__init__()
        self.graph = onnx.load(str(path)).graph
        initializers = {i.name: torch.from_numpy(onnx.numpy_helper.to_array(i).copy()) for i in self.graph.initializer}
        statistics = {name for n in self.graph.node if n.op_type == "BatchNormalization" for name in n.input[3:]}
        self.constants = {name: initializers.pop(name) for name in statistics}
        self.names = list(initializers)
        self.weights = torch.nn.ParameterList([torch.nn.Parameter(initializers[name]) for name in self.names])
        self.last = [n for n in self.graph.node if n.op_type == "Gemm"][-1]
        self.kept = 1.0

    def forward(self, x):
        """Logits [N, classes] and the activations [N, neurons] that the last dense layer receives."""
        values = {**self.constants, **dict(zip(self.names, self.weights)), self.graph.input[0].name: x}
        for node in self.graph.node:
            arguments = [values[name] for name in node.input]
            if node is self.last:
                activations = arguments[0] * self.kept
                arguments[0] = activations
            values[node.output[0]] = self.apply_node(node, arguments)
        return values[self.last.output[0]], activations

    def apply_node(self, node, arguments):
        x, *rest = arguments
        attribute = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        pads = attribute.get("pads", [0, 0, 0, 0])
        if node.op_type == "Conv":
            return F.conv2d(x, *rest, stride=attribute.get("strides", 1), padding=pads[:2])
        if node.op_type == "BatchNormalization":
            scale, bias, mean, variance = rest
            # Keras's default momentum of 0.99 is 0.01 in PyTorch's reading.
            return F.batch_norm(x, mean, variance, scale, bias, self.training, 0.01, attribute["epsilon"])
        if node.op_type == "MaxPool":
            return F.max_pool2d(x, attribute["kernel_shape"], attribute["strides"], pads[:2])
        if node.op_type == "AveragePool":
            return F.avg_pool2d(x, attribute["kernel_shape"], attribute["strides"], pads[:2])
        if node.op_type == "GlobalAveragePool":
            return x.mean((2, 3), keepdim=True)
        if node.op_type == "Gemm":
            return F.linear(x, rest[0] if attribute.get("transB") else rest[0].T, *rest[1:])
        simple = {"Relu": F.relu, "Identity": lambda x: x, "Add": torch.add, "Flatten": lambda x: x.flatten(1)}
        simple["Softmax"] = lambda x: x.softmax(1)
        if node.op_type not in simple:
            sys.exit(f"no {node.op_type} here: {node.name}")
        return simple[node.op_type](x, *rest)

    @torch.no_grad()
    def run(self, x):
        parts = [self(part) for part in torch.from_numpy(x).split(250)]
        return tuple(torch.cat(part).numpy() for part in zip(*parts))


class ArtRecipe:
    """The repairs as ART's NeuralCleanse does them, on a network in PyTorch.

    Everything starts from the stamped images of the flagged class, with the flagged class as their label.
    """

    def __init__(self, case, images, labels, mask, pattern, seed, learning_rate):
        self.case, self.seed, self.learning_rate = case, seed, learning_rate
        clean = images[labels == case.target]
        self.clean = case.normalise(clean)
        self.stamped = case.normalise(stamp(clean, mask, pattern))

    def repair(self, method):
        """A function from normalised images to classes and abstentions, and a note on what was done."""
        network = Network(self.case.model).eval()
        return getattr(self, method)(network)

    def unlearning(self, network):
        """One epoch in minibatches of one, with Keras's Adam."""
        torch.manual_seed(self.seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate, eps=1e-7)
        x = torch.from_numpy(self.stamped)
        network.train()
        for index in torch.randperm(len(x)):
            loss = F.cross_entropy(network(x[index : index + 1])[0], torch.tensor([self.case.target]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        return answered(network), f"{len(x)} steps"

    def pruning(self, network):
        """Most excited neurons first, until all probabilities equal the one-hot label, 30 % at the most."""
        ranked = self.ranked(network)
        one_hot = np.eye(network.run(self.clean[:1])[0].shape[1], dtype=np.float32)[self.case.target]
        network.kept = torch.ones(len(ranked))
        pruned = 0
        while pruned < 0.3 * len(ranked) and (softmax(network.run(self.stamped)[0]) != one_hot).any():
            network.kept[ranked[pruned]] = 0
            pruned += 1
        return answered(network), f"{pruned} of {len(ranked)} neurons"

    def filtering(self, network):
        """Abstains where any of the top 1 % of neurons is above its mean + 1 standard deviation on the clean images."""
        ranked = self.ranked(network)
        top = ranked[: int(np.ceil(0.01 * len(ranked)))]
        clean = network.run(self.clean)[1][:, top]
        threshold = clean.mean(0) + clean.std(0)

        def answer(x):
            logits, activations = network.run(x)
            return logits.argmax(1), (activations[:, top] > threshold).any(1)

        return answer, f"{len(top)} of {len(ranked)} neurons watched"

    def ranked(self, network):
        return np.argsort(network.run(self.clean)[1].sum(0) - network.run(self.stamped)[1].sum(0), kind="stable")


def softmax(logits):
    return torch.from_numpy(logits).softmax(1).numpy()


def answered(network):
    def answer(x):
        classes = network.run(x)[0].argmax(1)
        return classes, np.zeros(len(classes), bool)

    return answer


def onnx_answers(path):
    """The same of an ONNX file, which abstains by an output of that name if it has one."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]

    def answer(x):
        parts = [session.run(None, {session.get_inputs()[0].name: x[i : i + 250]}) for i in range(0, len(x), 250)]
        scores, *rest = (np.concatenate(part) for part in zip(*parts))
        return scores.argmax(1), rest[0] if "abstain" in outputs else np.zeros(len(scores), bool)

    return answer


class Command:
    """The command, on one model and one file of clean samples, with the engine that is built in and so the same everywhere."""

    def __init__(self, path, case, images, labels, folder, seed):
        self.path, self.case, self.folder = path, case, folder
        np.savez(folder / "clean.npz", x=images, y=labels)
        self.options = [str(case.model), "--data", str(folder / "clean.npz"), "--seed", str(seed), "--scale", str(case.scale)]
        self.options += ["--mean", str(case.mean), "--std", str(case.std), "--samples", str(len(images)), "--engine", "rten"]

    def scan(self):
        """The reversed trigger of the target class, its share of the median norm, and the verdict."""
        self.run("scan", "--out", str(self.folder / "scan"), allowed=(0, 1, 3))
        trigger = np.load(self.folder / "scan" / "triggers" / f"class_{self.case.target:03}.npz")
        report = json.loads((self.folder / "scan" / "scan.json").read_text())
        return trigger["mask"], trigger["pattern"], report["verdict"]

    def mitigate(self, method):
        """The repaired model and a note on what was done."""
        out = self.folder / method / "model.onnx"
        options = ["--method", method, "--scan", str(self.folder / "scan"), "--target", str(self.case.target)]
        options += ["--embed-filter"] * (method == "filtering")
        self.run("mitigate", *options, "--max-accuracy-drop", "100", "--out", str(out))
        report = json.loads((out.parent / "mitigation.json").read_text())
        return out, report["outcomes"][0]["summary"]

    def run(self, name, *options, allowed=(0,)):
        done = subprocess.run([str(self.path), name, *self.options, *options], capture_output=True, text=True)
        if done.returncode not in allowed:
            sys.exit(f"{name} of {self.case.model} ended with {done.returncode}:\n{done.stderr}")


def percent(share):
    return "–" if share is None else f"{100 * share:.1f}"


def row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def compare(case, arguments):
    name = case.model.stem
    order = np.random.default_rng(arguments.seed).permutation(len(case.images))
    count = min(arguments.samples, len(order) * 4 // 5)
    working, unseen = order[:count], order[count : count + arguments.samples]
    images, labels = case.images[working].astype(np.float32), case.labels[working]
    unseen = case.images[unseen].astype(np.float32), case.labels[unseen]

    def write(method, side, measured, note):
        shares = [measured.clean_accuracy, measured.attack_success_rate, measured.false_positives, measured.let_through]
        row(f"`{name}`", method, side, *map(percent, shares), note)

    with tempfile.TemporaryDirectory() as folder:
        command = Command(arguments.command, case, images, labels, Path(folder), arguments.seed)
        mask, pattern, verdict = command.scan()
        art = ArtRecipe(case, images, labels, mask, pattern, arguments.seed, arguments.art_learning_rate)
        write("none", "–", measure(case, onnx_answers(case.model), *unseen), f"scan: {verdict}")
        for method in METHODS:
            answer, note = art.repair(method)
            write(method, "ART's recipe", measure(case, answer, *unseen), note)
            path, note = command.mitigate(method)
            write(method, "ours", measure(case, onnx_answers(path), *unseen), note)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", type=Path, default=ROOT / "target/release/neural-cleanse", help="default: %(default)s")
    parser.add_argument("--samples", type=int, default=1000, help="to repair with, and as many to measure on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--art-learning-rate", type=float, default=1e-3, help="of ART's unlearning (default: Keras's, %(default)s)")
    parser.add_argument("--zoo", type=Path, help="compare on this folder of models with a manifest.json instead of the fixtures")
    parser.add_argument("--data", type=Path, help="the folder of the IDX files that go with --zoo")
    arguments = parser.parse_args()
    if (arguments.zoo is None) != (arguments.data is None):
        parser.error("--zoo and --data go together")

    torch.set_num_threads(1)
    row("model", "repair", "by", "clean accuracy %", "true ASR %", "clean abstained on %", "triggered let through %", "what it did")
    row(*["---"] * 8)
    for case in zoo_cases(arguments.zoo, arguments.data) if arguments.zoo else fixture_cases():
        compare(case, arguments)


if __name__ == "__main__":
    main()
