"""A run: which task is next, and what is already done."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import ArrayLike

from .. import _arrays, _native, _run_store
from .._models import to_onnx
from .._scan import Scan, norm_name, scan_request, split_options
from ..errors import DataError, Error
from . import _tasks

Models = Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True)
class Failure:
    """Why a model could not be scanned."""

    reason: str


@dataclass(frozen=True)
class Summary:
    """What came of every model, by name, in the order in which they were given."""

    results: dict[str, Scan | Failure]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row for each model: name, verdict (``"failed"`` for a failure), flagged classes, ratio and reason."""
        return [_row(name, result) for name, result in self.results.items()]

    def __repr__(self) -> str:
        cells = [("model", "verdict", "flagged", "ratio", "reason")]
        for row in self.rows:
            flagged = " ".join(map(str, row["flagged_classes"])) or "–"
            ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
            cells.append((row["model"], row["verdict"], flagged, ratio, row["reason"]))
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]]) for row in cells)


def _row(name: str, result: Scan | Failure) -> dict[str, Any]:
    if isinstance(result, Failure):
        return {"model": name, "verdict": "failed", "flagged_classes": [], "ratio": None, "reason": result.reason}
    return {
        "model": name,
        "verdict": result.verdict,
        "flagged_classes": result.flagged_classes,
        "ratio": result.report["ratio"],
        "reason": result.reason,
    }


def scan(
    models: Models,
    data: tuple[ArrayLike, ArrayLike | None] | str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    block: int = 8,
    retries: int = 3,
    value_range: tuple[float, float] | None = None,
    **params: Any,
) -> Summary:
    """Scan models on the Ray cluster that this process is connected to.

    Parameters
    ----------
    models : dict or sequence
        Models as `neural_cleanse.scan` takes them, by name. In a sequence paths are called by their stem, others by
        their position.
    data : tuple of array_like or path
        Clean images and their classes (or None), or a ``.npz`` file with ``x`` and perhaps ``y``.
    out : path, optional
        Where each model gets a folder with ``scan.json`` and the triggers, and ``summary.json`` is written. A run takes
        up there what an interrupted one with the same models, data and parameters has done.
    block : int
        How many classes a task inverts. A task has one processor.
    retries : int
        How often a task is done anew whose worker or node died.
    value_range : tuple of float, optional
        As for `neural_cleanse.scan`.
    **params
        What else `neural_cleanse.scan` takes; but ``threads`` is 1, and every class is taken to its end.

    Returns
    -------
    Summary
        A `neural_cleanse.Scan` for each model, or the `Failure` of one that could not be scanned.
    """
    if block < 1:
        raise DataError(f"block must be at least 1, not {block}")
    x, y = _samples(data)
    options, request = _request(params)
    options["value_range"] = _arrays.value_range(x, value_range)
    labels = _arrays.labels(y)
    common = hashlib.sha256(json.dumps([options, request], sort_keys=True, default=str).encode())
    common.update(np.ascontiguousarray(x).tobytes())
    common.update(b"" if labels is None else labels.tobytes())
    samples = ray.put((np.ascontiguousarray(x), labels))
    # One or two tasks for each processor are enough to keep it busy; models wait outside the object store.
    at_once = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))

    waiting = [_ModelRun(name, model, options, request, block, retries, samples) for name, model in _named(models)]
    results: dict[str, Scan | Failure] = {run.name: Failure("not begun") for run in waiting}
    active: dict[Any, _ModelRun] = {}
    folder = None if out is None else Path(out)
    waiting.reverse()
    while waiting or active:
        while waiting and len(active) < at_once:
            run = waiting.pop()
            active.update(run.begin(folder, common.copy(), x))
            results[run.name] = run.result or results[run.name]
        if active:
            (done,), _ = ray.wait(list(active))
            run = active.pop(done)
            active.update(run.heard(done))
            results[run.name] = run.result or results[run.name]
            if isinstance(run.result, Failure):
                active = {task: other for task, other in active.items() if other is not run}
    summary = Summary(results)
    if folder is not None:
        _run_store.write_json(folder / "summary.json", summary.rows)
    return summary


@dataclass
class _ModelRun:
    """One model: it is opened, its blocks are inverted, then suspicious classes again, and it is judged."""

    name: str
    model: Any
    options: dict[str, Any]
    request: dict[str, Any]
    block: int
    retries: int
    samples: Any
    result: Scan | Failure | None = None
    store: _run_store.Store | None = None
    tasks: dict[Any, tuple[str, Any]] = field(default_factory=dict)
    done: list[tuple[_native.Job, _native.Inverted]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def begin(self, folder: Path | None, fingerprint: Any, x: Any) -> dict[Any, _ModelRun]:
        """Start the first task; give the tasks that are started."""
        self.started = time.monotonic()
        try:
            layout = self.options.get("layout")
            sample_shape = _arrays.sample_shape(x, layout)
            exported = to_onnx(self.model, self.options.get("input_shape"), sample_shape, layout)
            content = exported.model if isinstance(exported.model, bytes) else Path(exported.model).read_bytes()
            fingerprint.update(content)
            self.store = None if folder is None else _run_store.Store(folder / self.name, fingerprint.hexdigest())
            if self.store and (done := self.store.finished()):
                self.result = done
                return {}
        except (Error, OSError) as error:
            self.result = Failure(str(error))
            return {}
        options = {"layout": exported.layout, **self.options} if exported.layout else self.options
        self.options = {**options, "threads": 1}
        self.sha256, self.path = hashlib.sha256(content).hexdigest(), exported.name
        self.content = ray.put(np.frombuffer(content, np.uint8))
        return self._task("open", None, _tasks.open_model, self.request)

    def heard(self, task: Any) -> dict[Any, _ModelRun]:
        """Take up what a task has done; give the tasks that are started."""
        kind, what = self.tasks.pop(task)
        try:
            value = ray.get(task)
        except Exception as error:
            for other in self.tasks:
                ray.cancel(other, force=True)
            # Ray's own errors are a traceback that ends with what happened.
            self.result = Failure(str(getattr(error, "cause", error)).strip().splitlines()[-1])
            return {}
        if kind == "open":
            return self._invert([(target_class, 0, None) for target_class in value])
        if kind == "invert":
            self._keep(what, value)
            return {} if self.tasks else self._next()
        if kind == "next":
            return self._invert(value) if value else self._conclude()
        self.result = value
        if self.store:
            self.store.finish(value)
        return {}

    def _next(self) -> dict[Any, _ModelRun]:
        return self._task("next", None, _tasks.next_jobs, self.done, self.request)

    def _invert(self, jobs: list[_native.Job]) -> dict[Any, _ModelRun]:
        """Start a task for each block of jobs that are not done."""
        known = self.store.inversions() if self.store else {}
        done = [job for job in jobs if job[:2] in known]
        self._keep(done, [known[job[:2]] for job in done])
        left = [job for job in jobs if job[:2] not in known]
        if not left:
            return self._next()
        blocks = [left[i : i + self.block] for i in range(0, len(left), self.block)]
        started: dict[Any, _ModelRun] = {}
        for jobs_of_block in blocks:
            started.update(self._task("invert", jobs_of_block, _tasks.invert, jobs_of_block, self.request))
        return started

    def _keep(self, jobs: list[_native.Job], inversions: list[Any]) -> None:
        for job, inversion in zip(jobs, inversions, strict=True):
            self.done.append((job, inversion))
            if self.store:
                self.store.keep(job[:2], inversion)

    def _conclude(self) -> dict[Any, _ModelRun]:
        seconds = time.monotonic() - self.started
        about = {"name": self.path, "sha256": self.sha256, "seconds": seconds}
        return self._task("conclude", None, _tasks.conclude, self.done, self.request, about)

    def _task(self, kind: str, what: Any, function: Any, *arguments: Any) -> dict[Any, _ModelRun]:
        task = function.options(max_retries=self.retries).remote(self.content, self.samples, self.options, *arguments)
        self.tasks[task] = (kind, what)
        return {task: self}


def _samples(data: Any) -> tuple[Any, Any]:
    if not isinstance(data, (str, PathLike)):
        x, y = data
        return np.asarray(x), y
    try:
        with np.load(data, allow_pickle=False) as arrays:
            return arrays["x"], arrays.get("y")
    except Exception as error:
        raise DataError(f"{os.fspath(data)} is not a .npz file with x: {error}") from error


def _request(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    options, rest = split_options(params)
    options.pop("threads", None)
    of_scan = {name: rest.pop(name) for name in SCAN if name in rest}
    norm_name(of_scan.get("norm", 2))
    return options, scan_request(**of_scan, exhaustive=True, search=rest)


SCAN = ("preset", "norm", "classes", "rule", "threshold", "samples", "seed", "force")


def _named(models: Models) -> list[tuple[str, Any]]:
    if isinstance(models, Mapping):
        return list(models.items())
    names = [Path(m).stem if isinstance(m, (str, PathLike)) else f"model_{i}" for i, m in enumerate(models)]
    if len(set(names)) < len(names):
        raise DataError("two models have the same name: give a dict of names and models")
    return list(zip(names, models, strict=True))
