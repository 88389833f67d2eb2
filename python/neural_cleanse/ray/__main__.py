"""``python -m neural_cleanse.ray scan MODEL... --data CLEAN.npz --out DIR``."""

import argparse
import sys

import ray

from . import scan


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 1 if a model is backdoored, 2 if one failed, 3 if one is inconclusive."""
    parser = argparse.ArgumentParser(prog="python -m neural_cleanse.ray", description="Scan models on a Ray cluster.")
    command = parser.add_subparsers(dest="command", required=True).add_parser("scan", help="scan models")
    command.add_argument("models", nargs="+", metavar="MODEL.onnx")
    command.add_argument("--data", required=True, metavar="FILE.npz", help="clean samples: x and perhaps y")
    command.add_argument("--out", required=True, metavar="DIR", help="a folder for each model, and summary.json")
    command.add_argument("--address", metavar="HOST:PORT", help="of the cluster [default: a local one]")
    command.add_argument("--block", type=int, default=8, metavar="N", help="classes in a task [default: 8]")
    for name in ("scale", "mean", "std"):
        command.add_argument(f"--{name}", type=float, nargs="+", metavar="NUMBER")
    command.add_argument("--layout", choices=("nchw", "nhwc"))
    command.add_argument("--value-range", type=float, nargs=2, metavar=("LOW", "HIGH"))
    command.add_argument("--preset", choices=("fast", "seed"), default="fast")
    command.add_argument("--norm", type=float, default=2.0, help="1, 2 or inf")
    command.add_argument("--rule", choices=("ratio", "mad"), default="ratio")
    for name in ("steps", "samples", "seed"):
        command.add_argument(f"--{name}", type=int, metavar="N")
    command.add_argument("--engine", default="auto")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    del given["command"]
    if "scale" in given:
        given["scale"] = given["scale"][0]
    ray.init(address=given.pop("address", None), log_to_driver=False)
    summary = scan(given.pop("models"), given.pop("data"), **given)
    print(summary)
    verdicts = {row["verdict"] for row in summary.rows}
    return next(
        (status for verdict, status in (("failed", 2), ("backdoored", 1), ("inconclusive", 3)) if verdict in verdicts),
        0,
    )


if __name__ == "__main__":
    sys.exit(main())
