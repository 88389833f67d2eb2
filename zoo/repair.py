"""Repairs the models of the zoo that a patch leads to one class, and prints as Markdown what it came to.

    python3 zoo/repair.py --zoo FOLDER --out RESULTS [--half development] [--method unlearning] [--seeds 3] [--jobs 1] [--only PART-OF-NAME] [--beside OTHER-RESULTS] [-- OPTION ...]

FOLDER is what zoo/train.py made. RESULTS gets seed-N/NAME.json, the report of each repair. Those that are there already are left alone, so an
interrupted run goes on where it was. Repair and measurement have the test images, none of which were trained on, and no image in common. Options after
`--` are those of `neural-cleanse mitigate`. The figures can stand beside OTHER-RESULTS, those of the same models with other options: differences are
paired, and ± is their standard error over all runs.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import datasets
import score

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 1_000  # What a repair works with.
MEASURED_ON = 3_000  # At most.
# What it may end with: also a model that is not good enough.
ENDS = (0, 1, 3, 4)


def scaled(images):
    return (255 * np.asarray(images)).round().astype(np.uint8)


def true_trigger(trigger, shape):
    """The patch of a record as a mask and a pattern in 0..255."""
    mask, pattern = np.zeros((1, *shape[1:]), np.float32), np.zeros(shape, np.float32)
    pixels = 255 * np.asarray(trigger["pixels"], np.float32)
    place = (slice(None), *(slice(start, start + extent) for start, extent in zip((trigger["row"], trigger["column"]), pixels.shape[1:])))
    mask[place], pattern[place] = 1, pixels
    return {"mask": mask, "pattern": pattern}


def clean_images(name, cache, folder):
    """The test images of the data set `name` as a file, in an order of no kind."""
    path = folder / f"{name}.npz"
    if not path.exists():
        data = datasets.load(name, cache)
        images, labels = (np.concatenate(parts) for parts in zip(data.samples, data.test))
        np.savez(path, x=scaled(images), y=labels)
    return path


def repair(arguments, record, seed, folder):
    """Repairs one model; returns a sentence if that fails."""
    zoo, name = arguments.zoo, record["name"]
    result = arguments.out / f"seed-{seed}" / f"{name}.json"
    if result.exists():
        return None
    data = folder / f"{record['dataset']}.npz"
    with tempfile.TemporaryDirectory() as out:
        trigger = Path(out) / "trigger.npz"
        np.savez(trigger, **true_trigger(record["trigger"], np.load(data)["x"].shape[1:]))
        # The networks scale their images themselves. No repair is turned down, for all are to be measured.
        command = [arguments.command, "mitigate", str(zoo / f"{name}.onnx"), "--data", str(data), "--quiet", "--scale", str(1 / 255), "--mean", "0", "--std", "1"]
        command += ["--target", str(record["trigger"]["target"]), "--true-trigger", str(trigger), "--samples", str(SAMPLES)]
        command += ["--method", arguments.method, "--test-samples", str(MEASURED_ON), "--max-accuracy-drop", "100", "--seed", str(seed), "--out", f"{out}/repaired.onnx", *arguments.options]
        done = subprocess.run(command, capture_output=True, text=True)
        report = Path(out) / "mitigation.json"
        if done.returncode not in ENDS or not report.exists():
            return f"{name}, seed {seed}: {done.stderr.strip()}"
        text = report.read_text()
    result.parent.mkdir(parents=True, exist_ok=True)
    part = result.with_suffix(".part")
    part.write_text(text)
    part.replace(result)
    return None


def figures(report):
    """Of one repair: each measurement in percent, before and after."""
    before, after = report["before"], report["outcomes"][-1]["after"]

    def percent(measured):
        return [100 * value for value in (measured["clean_accuracy"], measured["target_recalls"][0], measured["true_attack_success_rate"], measured["natural_confusion_rates"][0])]

    return np.array([percent(before), percent(after)])


NAMES = ["accuracy", "recall of the target", "success of the true trigger", "natural confusion"]


def mean(differences):
    """A mean with its standard error."""
    error = f" ± {np.std(differences, ddof=1) / math.sqrt(len(differences)):.1f}" if len(differences) > 1 else ""
    return f"{np.mean(differences):+.1f}{error}"


def read(results, records, seeds):
    paths = {(record["name"], seed): results / f"seed-{seed}" / f"{record['name']}.json" for record in records for seed in range(seeds)}
    return {key: figures(json.loads(path.read_text())) for key, path in paths.items() if path.exists()}


def tables(arguments, records):
    runs = read(arguments.out, records, arguments.seeds)
    names = sorted({name for name, _ in runs})
    print(f"{len(names)} models of the {arguments.half} half, {len(runs)} repairs. In percent, over the seeds, before → after; in brackets the worst seed.\n")
    rows = []
    for name in names:
        of_model = np.array([run for (other, _), run in runs.items() if other == name])
        (before, after), changes = of_model.mean(0), of_model[:, 1] - of_model[:, 0]
        # Worst is the lowest for the first two, the highest success of the trigger, and whatever changed most.
        worst = [of_model[:, 1, 0].min(), of_model[:, 1, 1].min(), of_model[:, 1, 2].max(), of_model[np.abs(changes[:, 3]).argmax(), 1, 3]]
        rows.append([name, *(f"{before[i]:.1f} → {after[i]:.1f} ({worst[i]:.1f})" for i in range(len(NAMES)))])
    print(score.table(["model", *NAMES], rows), "\n")
    every = np.array(list(runs.values()))
    rows = [[name, mean(every[:, 1, i] - every[:, 0, i]), f"{np.median(every[:, 1, i]):.1f}"] for i, name in enumerate(NAMES)]
    print(score.table(["", "change in points", "median after"], rows))
    if arguments.beside:
        others = read(arguments.beside, records, arguments.seeds)
        pairs = np.array([[runs[key][1], others[key][1]] for key in runs if key in others])
        if not len(pairs):
            raise SystemExit(f"{arguments.beside} has no repair of the same model")
        print(f"\n{arguments.beside.name}, in {len(pairs)} of the same runs:\n")
        rows = [[name, *(f"{value:.1f}" for value in pairs[:, ::-1, i].mean(0)), mean(pairs[:, 1, i] - pairs[:, 0, i])] for i, name in enumerate(NAMES)]
        print(score.table(["", arguments.beside.name, arguments.out.name, "difference in points"], rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--command", default=str(ROOT / "target/release/neural-cleanse"))
    parser.add_argument("--method", default="unlearning")
    parser.add_argument("--half", choices=["scored", "development"], default="development")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--beside", type=Path)
    parser.add_argument("options", nargs="*", help="options of neural-cleanse mitigate")
    arguments = parser.parse_args()
    records = [json.loads(path.read_text()) for path in sorted(arguments.zoo.glob("*.json"))]
    records = [record for record in records if record["half"] == arguments.half and arguments.only in record["name"]]
    records = [record for record in records if "pixels" in record["trigger"] and record["trigger"]["kind"] == "all_to_one" and record["attack_success_rate"] >= score.TAKEN]
    with tempfile.TemporaryDirectory() as folder:
        for dataset in sorted({record["dataset"] for record in records}):
            clean_images(dataset, arguments.zoo / "downloads", Path(folder))
        with ThreadPoolExecutor(arguments.jobs) as pool:
            jobs = [pool.submit(repair, arguments, record, seed, Path(folder)) for seed in range(arguments.seeds) for record in records]
            failures = [failure for job in jobs if (failure := job.result())]
    print(*failures, sep="\n", file=sys.stderr)
    tables(arguments, records)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
