"""Scans the models of the zoo, each under several seeds.

    python3 zoo/scan.py --zoo FOLDER --out RESULTS [--half development] [--seeds 5] [--jobs 1] [--only PART-OF-NAME] [-- OPTION ...]

FOLDER is what zoo/train.py made. RESULTS gets seed-N/NAME.json, the report of each scan. Those that are there already are left alone, so an
interrupted run goes on where it was. Options after `--` are those of `neural-cleanse scan`. zoo/score.py makes tables of the results.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERDICTS = (0, 1, 3)


def scan(arguments, record, seed):
    """Scans one model; returns a sentence if that fails."""
    zoo, name = arguments.zoo, record["name"]
    result = arguments.out / f"seed-{seed}" / f"{name}.json"
    if result.exists():
        return None
    with tempfile.TemporaryDirectory() as out:
        # The networks scale their images themselves.
        command = [arguments.command, "scan", str(zoo / f"{name}.onnx"), "--data", str(zoo / f"samples-{record['dataset']}.npz"), "--quiet"]
        command += ["--scale", str(1 / 255), "--mean", "0", "--std", "1", "--seed", str(seed), "--out", out, *arguments.options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in VERDICTS:
            return f"{name}, seed {seed}: {done.stderr.strip()}"
        report = (Path(out) / "scan.json").read_text()
    result.parent.mkdir(parents=True, exist_ok=True)
    part = result.with_suffix(".part")
    part.write_text(report)
    part.replace(result)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--command", default=str(ROOT / "target/release/neural-cleanse"))
    parser.add_argument("--half", choices=["scored", "development"], help="only the models of this half")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("options", nargs="*", help="options of neural-cleanse scan")
    arguments = parser.parse_args()
    records = [json.loads(path.read_text()) for path in sorted(arguments.zoo.glob("*.json"))]
    records = [record for record in records if arguments.only in record["name"] and arguments.half in (None, record["half"])]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [pool.submit(scan, arguments, record, seed) for seed in range(arguments.seeds) for record in records]
        failures = [failure for job in jobs if (failure := job.result())]
    print(*failures, sep="\n", file=sys.stderr)
    print(f"{len(jobs) - len(failures)} of {len(jobs)} reports are in {arguments.out}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
