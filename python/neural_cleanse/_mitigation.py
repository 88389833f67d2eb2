"""Repairing a model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _files, _models, _native
from ._classifier import Classifier, classifier_for
from ._progress import watching
from ._scan import Scan, split_options
from ._scan import scan as scan_model
from ._trigger import Trigger
from .errors import DataError, ModelError, RepairRefused


class Filter:
    """Abstains from inputs on which a model reacts as it does to a trigger."""

    def __init__(self, classifier: Classifier, report: dict[str, Any]) -> None:
        self._classifier = classifier
        self._native = _native.Filter(json.dumps(report))
        self.report = report

    def abstains(self, x: ArrayLike) -> NDArray[np.bool_]:
        """Say for each image ``[N]`` whether it is rejected."""
        return self._native.abstains(self._classifier._native, self._classifier.images(x))


class Repair:
    """A repaired model.

    Attributes
    ----------
    classifier : Classifier
        The repaired model.
    report : dict
        What was done and how the model does before and after, as in ``mitigation.json``; rates are 0 to 1.
    filter : Filter or None
        The filter, if one was made.
    """

    def __init__(self, before: Classifier, classifier: Classifier, report: dict[str, Any]) -> None:
        self._before = before
        self.classifier = classifier
        self.report = report
        self.filter = Filter(classifier, report["filter"]) if report["filter"] else None

    @property
    def before(self) -> dict[str, Any]:
        """How the model did before."""
        return self.report["before"]

    @property
    def after(self) -> dict[str, Any]:
        """How it does after all methods."""
        outcomes = self.report["outcomes"]
        return outcomes[-1]["after"] if outcomes else self.before

    @property
    def accuracy_drop(self) -> float:
        """By how much clean accuracy fell, 0 to 1; negative if it rose."""
        return self.before["clean_accuracy"] - self.after["clean_accuracy"]

    def predict(self, x: ArrayLike) -> np.ma.MaskedArray[Any, Any]:
        """Classify images.

        Returns
        -------
        numpy.ma.MaskedArray
            The class ``[N]`` of each image, masked where the filter abstains.
        """
        abstains = False if self.filter is None else self.filter.abstains(x)
        return np.ma.masked_array(self.classifier.predict(x).argmax(axis=1), mask=abstains)

    def load_into(self, model: Any) -> None:
        """Give a model of PyTorch or Keras the repaired weights.

        Parameters
        ----------
        model : torch.nn.Module or keras.Model
            The model that was repaired.

        Raises
        ------
        ModelError
            If the model then does not say what the repaired one says; it is as it was.
        """
        saved = _models.weights(model)
        try:
            _models.load_weights(model, self._before.to_bytes(), self.classifier.to_bytes())
            self._check(model)
        except BaseException:
            _models.restore(model, saved)
            raise

    def _check(self, model: Any) -> None:
        """Compare the model, exported anew, with the repaired one on random images."""
        native, (channels, height, width) = self.classifier, self.classifier.image_shape
        shape = (height, width, channels) if native.layout == "nhwc" else (channels, height, width)
        anew = native._native.with_model(_models.to_onnx(model, shape).model)
        low, high = native.value_range
        images = np.random.default_rng(0).uniform(low, high, (32, channels, height, width)).astype(np.float32)
        expected, found = native.predict(images), anew.predict(images)
        if not np.allclose(expected, found, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max()))):
            raise ModelError("with the repaired weights the model does not say what the repaired ONNX model says")

    def save(self, path: str | PathLike[str], *, embed_filter: bool = False) -> None:
        """Write the model, and ``mitigation.json`` and ``mitigation.html`` beside it.

        Parameters
        ----------
        path : path
            The ONNX file.
        embed_filter : bool
            Whether to build the filter into the model, as a further boolean output ``abstain``.
        """
        native = self.classifier._native
        if embed_filter:
            if self.filter is None:
                raise DataError("there is no filter to embed: repair by filtering")
            native = self.filter._native.embedded_in(native)
        native.write_model(path)
        folder, report = Path(path).parent, json.dumps(self.report, indent=2)
        _files.write(folder / "mitigation.json", report + "\n")
        page = _native.mitigation_page(report, self._before.name, os.fspath(path))
        _files.write(folder / "mitigation.html", page)

    def __repr__(self) -> str:
        def line(stage: str, measured: dict[str, Any]) -> str:
            rates = ", ".join(f"{100 * rate:.1f} %" for rate in measured["attack_success_rates"])
            return f"{stage}: clean accuracy {100 * measured['clean_accuracy']:.1f} %, reversed ASR {rates}"

        outcomes = [(f"{o['method']} ({o['summary']})", o["after"]) for o in self.report["outcomes"]]
        return "\n".join(line(*stage) for stage in [("before", self.before), *outcomes])


def mitigate(
    model: Any,
    x: ArrayLike,
    y: ArrayLike,
    scan: Scan | Mapping[int, Trigger] | None = None,
    *,
    method: str | Sequence[str] = "unlearning",
    true_trigger: Trigger | None = None,
    max_accuracy_drop: float | None = 5.0,
    samples: int = 1000,
    test_samples: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
    value_range: tuple[float, float] | None = None,
    **params: Any,
) -> Repair:
    """Repair a backdoored model.

    The model that is given stays as it is; `Repair.load_into` puts the repaired weights into it.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto, torch.nn.Module, keras.Model or Classifier
        The classifier.
    x, y : array_like
        Clean images and their classes, as for `scan`.
    scan : Scan or dict of Trigger, optional
        The scan that flagged the classes to repair, or a trigger for each of them. Without it, the model is scanned
        first.
    method : {"unlearning", "pruning", "filtering"} or several
        What to do, in this order.
    true_trigger : Trigger, optional
        The true trigger, if it is known and there is one backdoor, to measure with.
    max_accuracy_drop : float, optional
        The most clean accuracy, in percentage points, that the repair may cost; None for any.
    samples, test_samples : int
        How many samples are worked with, and how many others measured on. Where there are no others, a fifth is held
        out.
    seed : int
        Of everything that is random.
    progress : bool, optional
        Whether to show a bar of tqdm; None does so on a terminal if tqdm is installed.
    value_range : tuple of float, optional
        The pixel values of `x` that are black and white; 0 and 255 for uint8.
    **params
        What makes a `Classifier`; and ``epochs``, ``stamped_share``, ``distillation``, ``temperature``, ``mixing``,
        ``shifting``, ``further_triggers``, ``searches``, ``batch_size``, ``learning_rate``, ``optimiser`` (``"adam"`` or ``"sgd"``) and
        ``last_layers`` of unlearning; ``prune_at_most``, ``prune_asr_bound`` and ``prune_accuracy_bound``;
        ``false_positive_rate`` of filtering.

    Returns
    -------
    Repair
        The repaired model, with figures on samples that no method worked on.

    Raises
    ------
    RepairRefused
        If the repair would cost too much clean accuracy.
    neural_cleanse.Error
        If there is nothing to repair, or model, samples and parameters do not go together.
    """
    options, repair = split_options(params)
    if value_range is not None:
        options["value_range"] = value_range
    classifier = classifier_for(model, x, options)
    labels = _arrays.labels(y)
    if labels is None:
        raise DataError("a repair needs labels")
    if scan is None:
        scan = scan_model(classifier, x, y, samples=samples, seed=seed, progress=progress)
    backdoors = _backdoors(scan)
    true_backdoor = None
    if true_trigger is not None:
        if len(backdoors) != 1:
            raise DataError(f"true_trigger goes with one backdoor, and there are {len(backdoors)}")
        true_backdoor = (backdoors[0][0], true_trigger.arrays)
    with watching(progress, "repair") as watch:
        native, report = _native.mitigate(
            classifier._native,
            classifier.images(x),
            labels,
            backdoors,
            true_backdoor=true_backdoor,
            methods=[method] if isinstance(method, str) else list(method),
            options=repair,
            samples=samples,
            test_samples=test_samples,
            seed=seed,
            watch=watch,
        )
    repaired = Repair(classifier, Classifier._of(native, f"{classifier.name}, repaired"), json.loads(report))
    drop = 100 * repaired.accuracy_drop
    if max_accuracy_drop is not None and drop > max_accuracy_drop + 1e-9:
        raise RepairRefused(
            f"clean accuracy would fall by {drop:.1f} points, more than the {max_accuracy_drop:g} of max_accuracy_drop"
        )
    return repaired


def _backdoors(scan: Scan | Mapping[int, Trigger]) -> list[_native.Backdoor]:
    if isinstance(scan, Scan):
        if not scan.flagged_classes:
            raise DataError(
                f"the scan flags no class ({scan.verdict}): nothing to repair; give {{class: trigger}} to repair one "
                "all the same"
            )
        return [
            (target, trigger.arrays)
            for target_class in scan.flagged_classes
            for target, trigger in _leading_to(target_class, scan)
        ]
    return [(int(target_class), trigger.arrays) for target_class, trigger in scan.items()]


def _leading_to(target_class: int, scan: Scan) -> list[tuple[int, Trigger]]:
    """Give the trigger for images of all classes or, where that was not searched for, those of the pairs."""
    if target_class in scan.triggers:
        return [(target_class, scan.triggers[target_class])]
    return [(target, trigger) for (_, target), trigger in scan.pair_triggers.items() if target == target_class]
