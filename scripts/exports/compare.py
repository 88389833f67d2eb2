"""Compares input gradients of exported models with those of the framework, and writes the table of docs/models.md.

    cargo build --release --examples
    python scripts/exports/compare.py DIR --write docs/models.md

DIR is where make_exports.py wrote. Each model (with one of NAME in its name, if there are any) is measured unless it was before. ONNX
Runtime is found as the command finds it.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

import in_float64

ROOT = Path(__file__).resolve().parents[2]
BATCH = 4
COSINE = 0.9999
RELATIVE_ERROR = 1e-3
SHARE = 0.97
#: How many samples are compared in float64, and how closely.
EXACT = 4
ENGINES = ["rten", "onnxruntime"]
FLOAT64 = "float64"
MARKER = "<!-- table -->\n"


@dataclass(frozen=True)
class Agreement:
    """How many samples' gradients are within the bounds of the float64 ones, and what the worst is."""

    within: int
    samples: int
    worst: float

    def __str__(self):
        return f"{self.within}/{self.samples} ({self.worst:.0e})"

    def suffices(self):
        return self.within >= SHARE * self.samples


def agreement(gradient, reference) -> Agreement:
    gradient, reference = (array.reshape(len(array), -1).astype(np.float64) for array in (gradient, reference))
    norms = np.linalg.norm(reference, axis=1)
    errors = np.linalg.norm(gradient - reference, axis=1) / norms
    cosines = (gradient * reference).sum(axis=1) / (np.linalg.norm(gradient, axis=1) * norms)
    within = (cosines >= COSINE) & (errors <= RELATIVE_ERROR)
    return Agreement(int(within.sum()), len(within), float(errors.max()))


def run(model: Path, reference: Path, engine: str) -> dict:
    """What the engine makes of the model: its agreement and milliseconds per step, or the error."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "gradient.npz")
        command = [example("input_gradient"), model, reference, out, "--engine", engine, "--batch", str(BATCH)]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode != 0:
            return {"error": process.stderr.strip()}
        result = agreement(np.load(out)["gradient"], np.load(reference)["gradient"])
    return asdict(result) | {"milliseconds": float(process.stdout)}


def run_in_float64(model: Path, reference: Path) -> dict:
    samples = np.load(reference)
    images, labels, expected = (samples[name][:EXACT] for name in ("x", "labels", "gradient"))
    try:
        return asdict(agreement(in_float64.gradient(model, images, labels, BATCH, example("differentiate")), expected))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def example(name: str) -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release/examples", name)


def row(model: Path, reference: Path, results: dict[str, dict]) -> list[str]:
    """The cells of a model in the table."""
    library, name = reference.stem.split("-", 1)
    samples = np.load(reference)
    graph = onnx.load(model, load_external_data=False)
    bodies = [graph.graph, *graph.functions]
    operators = Counter(node.op_type for body in bodies for node in body.node)
    [opset] = [imported.version for imported in graph.opset_import if imported.domain in ("", "ai.onnx")]
    shape = "×".join(map(str, samples["x"].shape[1:]))
    exporter = model.stem.removeprefix(f"{reference.stem}-")
    cells = [f"{library} {name}", shape, exporter, str(opset), f"{operators.total()}, {len(operators)} kinds"]
    autograd = agreement(samples["gradient_float32"], samples["gradient"])
    exact = results.get(FLOAT64)
    for engine in ENGINES:
        result = dict(results[engine])
        milliseconds = result.pop("milliseconds", None)
        if milliseconds is None:
            cells += ["✗", "–"]
            continue
        result = Agreement(**result)
        cells += [f"{mark(result, autograd, exact)} {result}", f"{milliseconds:.0f}"]
    cells.append("" if exact is None else "✗" if "error" in exact else str(Agreement(**exact)))
    return cells + [str(autograd)]


def mark(result: Agreement, autograd: Agreement, exact: dict | None) -> str:
    """✓ for enough samples; ≈ where the framework's own float32 gradient has no more, and all are within the bounds in float64."""
    if result.suffices():
        return "✓"
    differs = result.within < autograd.within - result.samples / 10
    proven = exact is not None and exact.get("within", 0) == exact.get("samples")
    return "≈" if proven and not differs else "✗"


def recorded(model: Path, kind: str) -> Path:
    return model.with_suffix(f".{kind}.json")


def measured(model: Path, reference: Path, again: bool) -> dict[str, dict]:
    """The model's results by engine and, where these are not close enough to tell, in float64."""
    results = {}

    def add(kind, measure):
        record = recorded(model, kind)
        if again or not record.exists():
            record.write_text(json.dumps(measure()))
            print(f"{model.stem}, {kind}: {record.read_text()}", flush=True)
        results[kind] = json.loads(record.read_text())

    for engine in ENGINES:
        add(engine, lambda: run(model, reference, engine))
    if any("error" not in result and result["within"] < SHARE * result["samples"] for result in results.values()):
        add(FLOAT64, lambda: run_in_float64(model, reference))
    return results


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="DIR")
    options.add_argument("names", nargs="*", metavar="NAME")
    options.add_argument("--again", action="store_true", help="measure what was measured before, too")
    options.add_argument("--write", type=Path, metavar="FILE", help="put the table at the end of FILE, after its line `<!-- table -->`")
    options = options.parse_args()

    head = ["model", "input", "exporter", "opset", "nodes"]
    for engine in ENGINES:
        head += [engine, "ms"]
    head += ["in float64", "autograd in float32"]
    table = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for reference in sorted(options.folder.glob("*.npz")):
        for model in sorted(options.folder.glob(f"{reference.stem}-*.onnx")):
            if not options.names or any(name in model.name for name in options.names):
                results = measured(model, reference, options.again)
                table.append(f"| {' | '.join(row(model, reference, results))} |")
    print("", *table, sep="\n")
    if options.write:
        text, _, _ = options.write.read_text().partition(MARKER)
        options.write.write_text("\n".join([text + MARKER, *table, ""]))


if __name__ == "__main__":
    main()
