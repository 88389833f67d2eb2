"""What a run over a cluster has done so far, in files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._scan import Scan

if TYPE_CHECKING:
    from ._native import Inverted


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

    def inversions(self) -> dict[tuple[int, int], Inverted]:
        """Give what is done, by class and look."""
        done: dict[tuple[int, int], Inverted] = {}
        for path in self._blocks.glob("*.npz"):
            with np.load(path, allow_pickle=False) as kept:
                low_and_high = kept["range"].tolist()
                trigger = (kept["mask"], kept["pattern"], (low_and_high[0], low_and_high[1]) if low_and_high else None)
                norm_and_opacity = kept["extent"].tolist()
                extent = (norm_and_opacity[0], norm_and_opacity[1]) if norm_and_opacity else None
                inverted = int(kept["target_class"]), trigger, bool(kept["converged"]), extent, str(kept["steps"]), int(kept["gradient_samples"])
            target_class, look = map(int, path.stem.split("_"))
            done[target_class, look] = inverted
        return done

    def keep(self, job: tuple[int, int], inverted: Inverted) -> None:
        """Write what came of a job, whole or not at all."""
        path = self._blocks / f"{job[0]}_{job[1]}.npz"
        if not path.exists():
            beside = path.with_suffix(".part")
            target_class, (mask, pattern, low_and_high), converged, extent, steps, gradient_samples = inverted
            with beside.open("wb") as file:
                np.savez_compressed(
                    file,
                    target_class=target_class,
                    mask=mask,
                    pattern=pattern,
                    range=np.array(low_and_high or (), np.float32),
                    converged=converged,
                    extent=np.array(extent or (), np.float64),
                    steps=steps,
                    gradient_samples=gradient_samples,
                )
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
