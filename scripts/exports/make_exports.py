"""Exports classifiers to ONNX as people do, with the gradients that their own frameworks give.

    python scripts/exports/make_exports.py --out DIR [NAME ...]

writes, for each architecture (all, or those whose name has one of NAME in it), `LIBRARY-ARCHITECTURE.npz` with images `x`, `labels`, and
the gradient of each image's cross-entropy by autograd in float64 (`gradient`) and float32 (`gradient_float32`), and for each
exporter `LIBRARY-ARCHITECTURE-EXPORTER.onnx`. What an exporter refuses is printed and left out. Models that are there already
are not made again.
"""

import argparse
import copy
import traceback
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from architectures import architectures, build

CHUNK = 4
SEED = 1


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--exporter", choices=[*PYTORCH_EXPORTERS, *EXPORTERS["keras"], *EXPORTERS["sklearn"]], help="this one only")
    options = options.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    for architecture in selected(options.names):
        stem = f"{architecture.library}-{architecture.name}"
        try:
            export_architecture(architecture, options.out, stem, options.exporter)
        except Exception as error:
            print(f"{stem}: {type(error).__name__}: {str(error).splitlines()[0][:300]}", flush=True)
            traceback.print_exc(limit=-2)


def selected(names: list[str]):
    """The architectures with one of `names` in theirs, in the order of `names`; all if there are none."""
    chosen = {}
    for part in names or [""]:
        for architecture in architectures():
            stem = f"{architecture.library}-{architecture.name}"
            if part in stem:
                chosen[stem] = architecture
    return chosen.values()


def export_architecture(architecture, out: Path, stem: str, only: str | None):
    exporters = EXPORTERS.get(architecture.library, PYTORCH_EXPORTERS)
    targets = {exporter: out / f"{stem}-{exporter}.onnx" for exporter in exporters if only in (None, exporter)}
    targets = {exporter: target for exporter, target in targets.items() if not (target.exists() or refusal(target).exists())}
    if not targets:
        return
    model = build(architecture, SEED)
    x = images(architecture)
    if not (out / f"{stem}.npz").exists():
        labels, gradient = input_gradient(copy.deepcopy(model).requires_grad_(False).double(), x.double())
        _, gradient_float32 = input_gradient(copy.deepcopy(model).requires_grad_(False), x, labels)
        np.savez(out / f"{stem}.npz", x=x, labels=labels, gradient=gradient, gradient_float32=gradient_float32)
    for exporter, target in targets.items():
        try:
            exporters[exporter](model, x[:2], target)
            print(f"{target.name}: written", flush=True)
        except Exception as error:
            target.unlink(missing_ok=True)
            refusal(target).write_text(f"{type(error).__name__}: {error}")
            print(f"{target.name}: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}", flush=True)


def images(architecture):
    size = architecture.size
    return torch.randn(32 if size <= 128 else 8, 3, size, size, generator=torch.Generator().manual_seed(SEED + 1))


def refusal(target: Path) -> Path:
    return target.with_suffix(".refused")


def input_gradient(model, x, labels=None):
    """The gradient of each image's cross-entropy to its label, by default the runner-up of the classes."""
    chosen, gradients = [], []
    for start in range(0, len(x), CHUNK):
        images = x[start : start + CHUNK].clone().requires_grad_()
        logits = model(images)
        target = logits.detach().argsort(dim=1)[:, -2] if labels is None else labels[start : start + CHUNK]
        F.cross_entropy(logits, target, reduction="sum").backward()
        chosen.append(target)
        gradients.append(images.grad)
    return torch.cat(chosen), torch.cat(gradients)


def export_current(model, example, target: Path):
    batch = torch.export.Dim("batch")
    torch.onnx.export(model, (example,), target, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)


def export_torchscript(model, example, target: Path):
    torch.onnx.export(
        model, (example,), target, dynamo=False, input_names=["images"], output_names=["logits"],
        dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip


def export_keras(model, example, target: Path):
    model.export(example, target)


def export_tensorflow(model, example, target: Path):
    model.export_through_tensorflow(target)


def export_sklearn(model, example, target: Path, zipmap=False):
    model.export(example, target, zipmap)


PYTORCH_EXPORTERS = {"dynamo": export_current, "torchscript": export_torchscript}
EXPORTERS = {
    "keras": {"keras": export_keras, "tf2onnx": export_tensorflow},
    "sklearn": {"skl2onnx": export_sklearn, "skl2onnx_zipmap": partial(export_sklearn, zipmap=True)},
}

if __name__ == "__main__":
    main()
