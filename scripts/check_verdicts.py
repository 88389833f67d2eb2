"""Scans models with and without the elimination of classes, under several seeds and norms, and compares the outcomes.

    python3 scripts/check_verdicts.py [--zoo DIR --data DIR] [--models MANIFEST] [--seeds 5] [--json OUT]

The models are the fixtures and, if they are at hand, those of a folder with a `manifest.json` in the form of the third-party zoo
(`--zoo`, whose clean samples are in `--data`), and those of `--models`: a JSON list of {"model", "data", "scale", "mean", "std", "target"}, with
paths beside the list. Needs `neural-cleanse` built, and an ONNX Runtime library if that engine is to be used.

Prints a table: for every model and norm, over the seeds, the verdicts with and without elimination, how many classes were dropped, the gradient samples per class
(further looks included), the ratio of the smallest trigger, and how far ratios of finished classes differ from the exhaustive ones.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LETTER = {"backdoored": "B", "clean": "C", "inconclusive": "I"}


def fixtures():
    manifest = json.loads((ROOT / "fixtures/manifest.json").read_text())
    for entry in manifest["models"]:
        yield {
            "model": ROOT / "fixtures" / entry["file"],
            "data": ROOT / "fixtures" / manifest["samples"],
            "target": entry.get("target"),
            **entry["preprocessing"],
        }


def zoo(folder, data):
    for entry in json.loads((folder / "manifest.json").read_text()):
        yield {
            "model": folder / entry["file"],
            "data": next(data.glob(entry["data"] + "-images*")),
            "scale": entry["pixel_scale"],
            "mean": entry["mean"],
            "std": entry["std"],
            "target": entry["target"],
        }


def listed(manifest):
    for entry in json.loads(manifest.read_text()):
        yield entry | {"model": manifest.parent / entry["model"], "data": manifest.parent / entry["data"]}


def scan(command, model, norm, seed, more):
    with tempfile.TemporaryDirectory() as out:
        options = {"data": model["data"], "scale": model["scale"], "mean": model["mean"], "std": model["std"], "norm": norm, "seed": seed, "out": out}
        arguments = [command, "scan", str(model["model"]), "--json", *more]
        for name, value in options.items():
            arguments += [f"--{name}", str(value)]
        result = subprocess.run(arguments, capture_output=True, text=True)
        if result.returncode not in (0, 1, 3):
            sys.exit(result.stderr)
        return json.loads(result.stdout)


def compare(exhaustive, report):
    """How the ratios of the classes that were finished differ, as a share of the exhaustive ones."""
    ratios = {c["target_class"]: c["ratio"] for c in exhaustive["classes"]}
    both = [(ratios[c["target_class"]], c["ratio"]) for c in report["classes"] if c["ratio"] is not None]
    return [ratio / true - 1 for true, ratio in both if true]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default=str(ROOT / "target/release/neural-cleanse"))
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--no-fixtures", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where every run is written")
    parser.add_argument("more", nargs="*", help="further options of the scan, after --")
    arguments = parser.parse_args()
    models = [] if arguments.no_fixtures else list(fixtures())
    models += zoo(arguments.zoo, arguments.data) if arguments.zoo else []
    models += listed(arguments.models) if arguments.models else []

    print("| model | target | norm | verdicts exhaustive | verdicts | flagged | dropped of classes | samples per class | ratio of the smallest | ratios off by at most |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    runs, differing = [], 0
    for model in models:
        for norm in ("1", "2"):
            pairs = [
                (scan(arguments.command, model, norm, seed, [*arguments.more, "--exhaustive"]), scan(arguments.command, model, norm, seed, arguments.more))
                for seed in range(arguments.seeds)
            ]
            words = ["".join(LETTER[run["verdict"]] for run in side) for side in zip(*pairs)]
            reports = [report for _, report in pairs]
            classes = len(reports[0]["classes"])
            dropped = sum(c["state"] == "dropped" for report in reports for c in report["classes"]) / len(reports)
            samples = [report["gradient_samples"] / classes for report in reports]
            off = [deviation for pair in pairs for deviation in compare(*pair)]
            flagged = Counter(c for report in reports for c in report["flagged_classes"])
            differing += sum(a["verdict"] != b["verdict"] or a["flagged_classes"] != b["flagged_classes"] for a, b in pairs)
            ratios = [report["ratio"] for report in reports]
            print(
                f"| {model['model'].stem} | {'–' if model['target'] is None else model['target']} | {norm} | {words[0]} | {words[1]} "
                f"| {', '.join(f'{c} ({n})' for c, n in sorted(flagged.items())) or '–'} | {dropped:.1f} of {classes} | {statistics.mean(samples):.0f} "
                f"| {min(ratios):.2f}–{max(ratios):.2f} | {100 * max(map(abs, off)):.0f} % |",
                flush=True,
            )
            runs += [
                {"model": model["model"].stem, "target": model["target"], "norm": norm, "classes": classes, "samples": s, "off": compare(*pair),
                 "verdicts": [run["verdict"] for run in pair], "flagged": [run["flagged_classes"] for run in pair]}
                for pair, s in zip(pairs, samples)
            ]  # fmt: skip
    off = [deviation for run in runs for deviation in run["off"]]
    print(
        f"\n{len(runs)} pairs of scans, {differing} with another verdict or other flagged classes; {statistics.mean(run['samples'] for run in runs):.0f} gradient samples "
        f"per class on average; ratios differ by {100 * statistics.pstdev(off):.1f} % (standard deviation), {100 * max(map(abs, off)):.0f} % at most"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(runs))


if __name__ == "__main__":
    main()
