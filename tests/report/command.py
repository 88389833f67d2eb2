"""The built command, and what it is run on."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
PREPROCESSING = ["--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530"]
CLEAN = ["--data", str(FIXTURES / "fashion-mnist-400.npz"), *PREPROCESSING]


def command() -> Path:
    """The binary of $NEURAL_CLEANSE, or that of the newest build."""
    if given := os.environ.get("NEURAL_CLEANSE"):
        return Path(given)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for profile in ("debug", "release") if (path := target / profile / "neural-cleanse").exists()]
    if not built:
        raise FileNotFoundError("build it first: cargo build --release")
    return max(built, key=lambda path: path.stat().st_mtime)


def run(*arguments: object, status: int | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs the command with the embedded engine's environment; checks the exit status if one is given."""
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "ORT_DYLIB_PATH")}
    words = [str(command()), *map(str, arguments)]
    result = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert status in (None, result.returncode), f"exit status {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result
