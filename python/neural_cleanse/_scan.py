"""Scanning a model, and what comes of it."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from . import _arrays, _display, _files, _native
from ._classes import ClassScan, DroppedClass
from ._classifier import classifier_for
from ._progress import watching
from ._trigger import Trigger
from .errors import FileError

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas


Way = tuple[int | None, int]
"""The class of the images, where it is not all others, and the class that they are sent to."""


class Scan:
    """The result of a scan.

    Attributes
    ----------
    report : dict
        All figures, as in ``scan.json``.
    """

    def __init__(
        self,
        report: dict[str, Any],
        triggers: dict[Way, Trigger],
        pictures: dict[Way, bytes],
        page: str | None,
    ) -> None:
        self.report = report
        self._triggers = triggers
        self._pictures = pictures
        self._page = page

    @property
    def mode(self) -> str:
        """What was looked for: ``"targets"``, ``"pairs"``, ``"margin"`` or ``"thorough"``."""
        return self.report["mode"]

    @property
    def verdict(self) -> str:
        """``"clean"``, ``"backdoored"`` or ``"inconclusive"``."""
        return self.report["verdict"]

    @property
    def reason(self) -> str:
        """Why, in a sentence or two."""
        return self.report["reason"]

    @property
    def flagged_classes(self) -> list[int]:
        """The classes that are flagged, in ascending order."""
        return self.report["flagged_classes"]

    @property
    def attacks(self) -> list[dict[str, Any]]:
        """What the backdoors that were found do.

        Each has a ``kind``: ``all_to_one`` with a ``target``, ``source_specific`` with ``source`` and ``target``,
        ``all_to_all`` with a ``shift``, or ``unknown``.
        """
        return self.report["attacks"]

    @property
    def clean_accuracy(self) -> float | None:
        """The share of the samples that are classified as labelled; None without labels."""
        return self.report["clean_accuracy"]

    @property
    def triggers(self) -> dict[int, Trigger]:
        """The reversed trigger of every class that was finished."""
        return {target: trigger for (source, target), trigger in self._triggers.items() if source is None}

    @property
    def pair_triggers(self) -> dict[tuple[int, int], Trigger]:
        """The reversed trigger of every source and target that an attack concerns, where pairs were looked at."""
        return {
            (source, target): trigger for (source, target), trigger in self._triggers.items() if source is not None
        }

    @property
    def classes(self) -> list[ClassScan]:
        """What was found out about each class that was finished."""
        known = [name for name in ClassScan.__dataclass_fields__ if name not in ("flagged", "trigger")]
        return [
            ClassScan(
                **{name: figures[name] for name in known},
                flagged=figures["target_class"] in self.flagged_classes,
                trigger=self._triggers[None, figures["target_class"]],
            )
            for figures in self.report["classes"]
            if figures["state"] == "finished"
        ]

    @property
    def dropped(self) -> list[DroppedClass]:
        """The classes that were not finished."""
        return [
            DroppedClass(**{name: figures[name] for name in DroppedClass.__dataclass_fields__})
            for figures in self.report["classes"]
            if figures["state"] == "dropped"
        ]

    def to_dataframe(self) -> pandas.DataFrame:
        """Give one row for each class, with the class for index. Needs pandas."""
        import pandas

        rows = [
            {**figures, "flagged": figures["target_class"] in self.flagged_classes}
            for figures in self.report["classes"]
        ]
        return pandas.DataFrame(rows, columns=None if rows else ["target_class"]).set_index("target_class")

    def plot(self) -> matplotlib.figure.Figure:
        """Draw the norms with the bound below which a class is flagged, and the smallest triggers. Needs matplotlib."""
        return _display.plot(self)

    def save(self, folder: str | PathLike[str], *, sarif: str | PathLike[str] | None = None) -> None:
        """Write what the command writes.

        Parameters
        ----------
        folder : path
            Where ``report.html``, ``scan.json`` and, in ``triggers/``, arrays and picture of each trigger go.
        sarif : path, optional
            A file for the findings as SARIF 2.1.0, for code-scanning pages.
        """
        folder = Path(folder)
        (folder / "triggers").mkdir(parents=True, exist_ok=True)
        for way, trigger in self._triggers.items():
            path = self._path(folder, way)
            trigger.save(path.with_suffix(".npz"))
            if picture := self._pictures.get(way):
                path.with_suffix(".png").write_bytes(picture)
        if self._page is not None:
            _files.write(folder / "report.html", self._page)
        _files.write(folder / "scan.json", json.dumps(self.report, indent=2) + "\n")
        if sarif is not None:
            _files.write(sarif, _native.sarif(json.dumps(self.report)) + "\n")

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Scan:
        """Read what `save` or ``neural-cleanse scan`` has written."""
        folder = Path(folder)
        try:
            report = json.loads((folder / "scan.json").read_text())
            ways: list[Way] = [(None, c["target_class"]) for c in report["classes"] if c["state"] == "finished"]
            ways += [(pair["source"], pair["target"]) for pair in report["pairs"] or [] if pair["attacked"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"{folder / 'scan.json'} is not the report of a scan: {error}") from error
        page = folder / "report.html"
        scan = cls(report, {}, {}, page.read_text() if page.exists() else None)
        for way in ways:
            path = scan._path(folder, way)
            scan._triggers[way] = Trigger.load(path.with_suffix(".npz"))
            if path.with_suffix(".png").exists():
                scan._pictures[way] = path.with_suffix(".png").read_bytes()
        return scan

    def _path(self, folder: Path, way: Way) -> Path:
        digits = max(3, len(str(self.report["model"]["classes"] - 1)))
        source, target = way
        name = f"class_{target:0{digits}}" if source is None else f"pair_{source:0{digits}}_{target:0{digits}}"
        return folder / "triggers" / name

    def __repr__(self) -> str:
        return _display.text(self)

    def _repr_html_(self) -> str:
        return _display.html(self)


def scan(
    model: Any,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    mode: str | None = None,
    preset: str = "fast",
    norm: float = 2,
    classes: list[int] | None = None,
    rule: str = "ratio",
    threshold: float | None = None,
    samples: int = 1000,
    seed: int = 0,
    force: bool = False,
    exhaustive: bool = False,
    progress: bool | None = None,
    value_range: tuple[float, float] | None = None,
    **params: Any,
) -> Scan:
    """Say whether a model hides a backdoor, for which class, and show the trigger.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto, torch.nn.Module, keras.Model or Classifier
        The classifier. A model of PyTorch or Keras is exported in memory, in evaluation mode, and left as it was.
    x : array_like, optional
        Clean images ``[N, C, H, W]`` or ``[N, H, W, C]``, before the model's preprocessing. Only margins need none.
    y : array_like, optional
        Their classes ``[N]``, or one-hot rows. Without them the model's own predictions serve.
    mode : {"targets", "pairs", "margin", "thorough"}, optional
        What to look for: triggers for each class, the default; for each source and target; margins that are too large,
        the default without `x`; or all of these.
    preset : {"fast", "seed"}
        Where the parameters of the search come from that are not given: 60 steps of one minibatch of 16, dropping
        classes that can no longer be flagged; or the documented defaults of ``NeuralCleanse``.
    norm : {1, 2, numpy.inf}
        The norm of the mask that is made small.
    classes : list of int, optional
        Only these classes.
    rule : {"ratio", "mad"}
        How triggers are judged: by their sizes as shares of what is usual, or by the anomaly index of their norms as in the paper.
    threshold : float, optional
        The bound beyond which a class is flagged.
    samples : int
        How many of the samples are used at most, spread evenly over the classes and chosen by the seed.
    seed : int
        Of everything that is random.
    force : bool
        Whether to go on where the clean accuracy is near chance.
    exhaustive : bool
        Whether to run every class to its end, also those that can no longer be flagged.
    progress : bool, optional
        Whether to show a bar of tqdm; None does so on a terminal if tqdm is installed.
    value_range : tuple of float, optional
        The pixel values of `x` that are black and white; 0 and 255 for uint8.
    **params
        ``scale``, ``mean``, ``std``, ``layout``, ``input_shape``, ``input``, ``output``, ``input_value``,
        ``class_names``, ``engine``, ``engine_library``, ``precision`` and ``threads`` of `Classifier`; and of the
        search ``steps``, ``init_cost``, ``learning_rate``, ``attack_success_threshold``, ``patience``,
        ``early_stop``, ``early_stop_threshold``, ``early_stop_patience``, ``cost_multiplier``, ``batch_size``,
        ``batches_per_step`` (None is a pass over all samples), ``classes_per_batch``, ``initial_mask``, ``mask_per_channel``,
        ``trigger`` ("blended" or "additive") and TABOR's ``overly_large``, ``scattered`` and ``blocking``.

    Returns
    -------
    Scan
        Verdict, figures and triggers.

    Raises
    ------
    neural_cleanse.Error
        If the model, the samples and the parameters do not go together.
    KeyboardInterrupt
        Soon after Ctrl-C.
    """
    options, search = split_options(params)
    if value_range is not None:
        options["value_range"] = value_range
    classifier = classifier_for(model, x, options)
    request = scan_request(preset, norm, classes, rule, threshold, samples, seed, force, exhaustive, search, mode)
    with watching(progress, "scan") as watch:
        found = _native.scan(
            classifier._native,
            None if x is None else classifier.images(x),
            _arrays.labels(y),
            request=request,
            name=classifier.name,
            sha256=classifier.sha256,
            watch=watch,
        )
    return scan_of(found)


def scan_request(
    preset: str = "fast",
    norm: float = 2,
    classes: list[int] | None = None,
    rule: str = "ratio",
    threshold: float | None = None,
    samples: int = 1000,
    seed: int = 0,
    force: bool = False,
    exhaustive: bool = False,
    search: dict[str, Any] | None = None,
    mode: str | None = None,
) -> dict[str, Any]:
    """Give what is to be done as the library takes it."""
    return {
        "mode": mode,
        "preset": preset,
        "norm": norm_name(norm),
        "classes": None if classes is None else [int(target_class) for target_class in classes],
        "rule": rule,
        "threshold": threshold,
        "samples": samples,
        "force": force,
        "exhaustive": exhaustive,
        "parameters": json.dumps({**(search or {}), "seed": seed}),
    }


def scan_of(found: _native.Scanned) -> Scan:
    """Give what the library found."""
    report, ways, page = found
    triggers = {(source, target): Trigger(*arrays) for source, target, arrays, _ in ways}
    pictures = {(source, target): picture for source, target, _, picture in ways}
    return Scan(json.loads(report), triggers, pictures, page)


CLASSIFIER_OPTIONS = (
    "scale",
    "mean",
    "std",
    "layout",
    "input_shape",
    "input",
    "output",
    "input_value",
    "class_names",
    "engine",
    "engine_library",
    "precision",
    "threads",
)


def split_options(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give those of `params` that make a `Classifier`, and the others."""
    return (
        {name: value for name, value in params.items() if name in CLASSIFIER_OPTIONS},
        {name: value for name, value in params.items() if name not in CLASSIFIER_OPTIONS},
    )


def norm_name(norm: float | str) -> str:
    """Give 1, 2 or inf as the library calls them."""
    return f"{float(norm):g}"
