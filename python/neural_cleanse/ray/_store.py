"""What a run has done so far, in files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .._scan import Scan

_FIELDS = ("target_class", "mask", "pattern", "converged", "steps", "gradient_samples")


class Store:
    """The folder of one model: inversions while it is scanned, and then the scan."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Take up what is in `folder`, if it was done with the same model, samples and parameters."""
        self.folder = folder
        self._blocks = folder / "inversions"
        self._marker = folder / "run.json"
        self._same = self._marker.exists() and json.loads(self._marker.read_text()) == fingerprint
        self._blocks.mkdir(parents=True, exist_ok=True)
        if not self._same:
            (folder / "scan.json").unlink(missing_ok=True)
            self._clear()
            write_json(self._marker, fingerprint)

    def finished(self) -> Scan | None:
        """Give the scan, if it was done."""
        return Scan.load(self.folder) if (self.folder / "scan.json").exists() else None

    def inversions(self) -> dict[tuple[int, int], Any]:
        """Give what is done, by class and look."""
        done = {}
        for path in self._blocks.glob("*.npz"):
            with np.load(path, allow_pickle=False) as arrays:
                values = [arrays[name] for name in _FIELDS]
            mask, pattern = values[1:3]
            inversion = (int(values[0]), mask, pattern, bool(values[3]), str(values[4]), int(values[5]))
            target_class, look = map(int, path.stem.split("_"))
            done[target_class, look] = inversion
        return done

    def keep(self, job: tuple[int, int], inversion: Any) -> None:
        """Write what came of a job, whole or not at all."""
        path = self._blocks / f"{job[0]}_{job[1]}.npz"
        if not path.exists():
            beside = path.with_suffix(".part")
            with beside.open("wb") as file:
                np.savez_compressed(file, **dict(zip(_FIELDS, inversion, strict=True)))
            os.replace(beside, path)

    def finish(self, scan: Scan) -> None:
        """Write the scan, after which the inversions are not needed."""
        scan.save(self.folder)
        self._clear()

    def _clear(self) -> None:
        for path in self._blocks.iterdir():
            path.unlink()


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(beside, path)
