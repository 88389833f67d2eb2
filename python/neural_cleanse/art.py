"""Neural Cleanse with the interface of the Adversarial Robustness Toolbox (ART).

``from neural_cleanse.art import NeuralCleanse`` takes the place of
``from art.defences.transformer.poisoning import NeuralCleanse``: same signature, same defaults, for Keras and PyTorch.
"""

from __future__ import annotations

import functools
import json
import logging
from typing import Any

import numpy as np
from art.defences.transformer.transformer import Transformer
from numpy.typing import NDArray

from . import _arrays, _native
from ._classifier import Classifier
from ._mitigation import Filter, Repair
from ._mitigation import mitigate as _mitigate
from ._progress import watching
from ._scan import Scan, norm_name
from ._scan import scan as _scan
from .errors import DataError, ParameterError

logger = logging.getLogger(__name__)

PARAMETERS = (
    "steps",
    "init_cost",
    "norm",
    "learning_rate",
    "attack_success_threshold",
    "patience",
    "early_stop",
    "early_stop_threshold",
    "early_stop_patience",
    "cost_multiplier",
    "batch_size",
)

MITIGATION_TYPES = ("unlearning", "pruning", "filtering")


class NeuralCleanse(Transformer):
    """Neural Cleanse (Wang et al. 2019), as a transformation of a classifier.

    Parameters
    ----------
    classifier : CLASSIFIER_TYPE
        A trained ART classifier whose model is one of PyTorch, Keras or ONNX.
    """

    params = list(PARAMETERS)  # noqa: RUF012, as the base has it

    def __init__(self, classifier: Any) -> None:
        super().__init__(classifier=classifier)
        self._check_params()

    def __call__(
        self,
        transformed_classifier: Any,
        steps: int = 1000,
        init_cost: float = 1e-3,
        norm: int | float = 2,
        learning_rate: float = 0.1,
        attack_success_threshold: float = 0.99,
        patience: int = 5,
        early_stop: bool = True,
        early_stop_threshold: float = 0.99,
        early_stop_patience: int = 10,
        cost_multiplier: float = 1.5,
        batch_size: int = 32,
    ) -> Any:
        """Give a new classifier with the methods of `CleansedClassifier`.

        Parameters
        ----------
        transformed_classifier : CLASSIFIER_TYPE
            An ART classifier. The new one is of the same kind and has the same model.
        steps : int
            The largest number of steps for a class. A step is a pass over the samples.
        init_cost : float
            The first weight of the mask's norm that is not 0.
        norm : {1, 2, numpy.inf}
            The norm of the mask that is made small.
        learning_rate : float
            Of Adam.
        attack_success_threshold : float
            The attack success rate, 0 to 1, from which on a step is a success.
        patience : int
            The successes (failures) in a row after which the cost rises (falls).
        early_stop : bool
            Whether to stop when the norm no longer falls.
        early_stop_threshold : float
            A norm above this share of the best is no improvement.
        early_stop_patience : int
            The steps without an improvement after which a class is finished.
        cost_multiplier : float
            The factor by which the cost rises; it falls by its power of 1.5.
        batch_size : int
            The number of images in a minibatch.

        Returns
        -------
        CleansedClassifier
            Which is an instance of the class of `transformed_classifier`, too.
        """
        cleansed = _cleansed(transformed_classifier)
        cleansed.steps = steps
        cleansed.init_cost = init_cost
        cleansed.norm = norm
        cleansed.learning_rate = learning_rate
        cleansed.attack_success_threshold = attack_success_threshold
        cleansed.patience = patience
        cleansed.early_stop = early_stop
        cleansed.early_stop_threshold = early_stop_threshold
        cleansed.early_stop_patience = early_stop_patience
        cleansed.cost_multiplier = cost_multiplier
        cleansed.batch_size = batch_size
        _native.check_parameters(**cleansed._search())
        return cleansed

    def fit(self, x: NDArray[Any], y: NDArray[Any] | None = None, **kwargs: Any) -> None:
        """Do nothing: the defence has no parameters to learn."""

    def _check_params(self) -> None:
        if not (hasattr(self.classifier, "model") and hasattr(self.classifier, "preprocessing_operations")):
            raise ParameterError(f"a {type(self.classifier).__name__} is not an ART classifier with a model")


class CleansedClassifier:
    """What Neural Cleanse adds to an ART classifier.

    The model is exported anew whenever it is scanned, so that what counts is its weights at that time. ``clip_values``,
    ``preprocessing`` and ``channels_first`` of the classifier are honoured. Whether the model gives logits or
    probabilities is told from the model itself.
    """

    steps: int
    init_cost: float
    norm: float
    learning_rate: float
    attack_success_threshold: float
    patience: int
    early_stop: bool
    early_stop_threshold: float
    early_stop_patience: int
    cost_multiplier: float
    batch_size: int

    seed = 0
    """Of everything that is random."""

    _filter: Filter | None = None

    def outlier_detection(
        self, x_val: NDArray[Any], y_val: NDArray[Any]
    ) -> list[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        """Invert the triggers of all classes and give those of the flagged ones.

        Parameters
        ----------
        x_val : ndarray
            Clean images, as the classifier takes them.
        y_val : ndarray
            Their classes, one-hot or as numbers.

        Returns
        -------
        list of tuple
            Class, mask and pattern, the last two in the shape of an image.
        """
        scan = self.scan(x_val, y_val)
        return [(c, *self._arrays(scan.triggers[c].mask, scan.triggers[c].pattern)) for c in scan.flagged_classes]

    def scan(self, x_val: NDArray[Any], y_val: NDArray[Any] | None = None) -> Scan:
        """Do the same and give all that there is to know of it."""
        return self._scan(self._classifier(x_val), x_val, y_val)

    def generate_backdoor(
        self, x_val: NDArray[Any], y_val: NDArray[Any] | None, y_target: NDArray[Any] | int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Invert the trigger that sends images to one class.

        Parameters
        ----------
        x_val, y_val : ndarray
            Clean images and their classes. Those of the target class are left out.
        y_target : ndarray or int
            The class, one-hot or as a number.

        Returns
        -------
        tuple of ndarray
            Mask and pattern, in the shape of an image.
        """
        target = int(np.argmax(y_target)) if np.ndim(y_target) else int(y_target)
        classifier = self._classifier(x_val)
        with watching(None, f"class {target}") as watch:
            mask, pattern, converged = _native.generate_backdoor(
                classifier._native,
                classifier.images(x_val),
                _arrays.labels(y_val),
                target,
                watch=watch,
                **self._search(),
            )
        if not converged:
            logger.warning("No trigger reached the success threshold for class %d; the last one is given", target)
        return self._arrays(mask, pattern)

    def backdoor_examples(
        self, x_val: NDArray[Any], y_val: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Put the triggers of the flagged classes on images of all other classes.

        Returns
        -------
        tuple of ndarray
            Clean images, the same with the trigger, and their true labels as in `y_val`. All are empty if no class is
            flagged.
        """
        labels = _arrays.labels(y_val)
        x_val, y_val = np.asarray(x_val), np.asarray(y_val)
        rows, stamped = [np.empty(0, np.int64)], [x_val[:0]]
        for target, mask, pattern in self.outlier_detection(x_val, y_val):
            outside = np.flatnonzero(labels != target)
            rows.append(outside)
            stamped.append(((1 - mask) * x_val[outside] + mask * pattern).astype(x_val.dtype))
        chosen = np.concatenate(rows)
        return x_val[chosen], np.concatenate(stamped), y_val[chosen]

    def check_backdoor_effective(self, backdoor_data: NDArray[Any], backdoor_labels: NDArray[Any]) -> bool:
        """Say whether triggers work.

        They do where at least `attack_success_threshold` of the images are taken for something else than their true
        class `backdoor_labels`. An image that is abstained on is not.
        """
        if not len(backdoor_data):
            return False
        classes = self.predict(backdoor_data).argmax(axis=1)
        fooled = (classes != _arrays.labels(backdoor_labels)) & (classes < self.nb_classes)  # type: ignore[attr-defined]
        return bool(fooled.mean() >= self.attack_success_threshold)

    def mitigate(
        self,
        x_val: NDArray[Any],
        y_val: NDArray[Any],
        mitigation_types: list[str],
        max_accuracy_drop: float | None = None,
        **options: Any,
    ) -> Repair | None:
        """Look for backdoors and remove those that are flagged.

        Unlearning and pruning change the weights of the model itself, which the classifier shares with the one that it
        was made from; filtering makes `predict` abstain. A fifth of the samples is held out to measure the result on.

        Parameters
        ----------
        x_val, y_val : ndarray
            Clean images of all classes, and their classes.
        mitigation_types : list of {"unlearning", "pruning", "filtering"}
            What to do, in this order; but filtering is done last, for a filter belongs to the weights that it was
            fitted to.
        max_accuracy_drop : float, optional
            The most clean accuracy, in percentage points, that this may cost.
        **options
            Those of `neural_cleanse.mitigate`, such as ``epochs`` and ``learning_rate`` of unlearning.

        Returns
        -------
        Repair or None
            Figures before and after; None where no class is flagged and nothing is done.

        Raises
        ------
        RepairRefused
            If it would cost more. The model is as it was.
        """
        for mitigation_type in mitigation_types:
            if mitigation_type not in MITIGATION_TYPES:
                raise TypeError(f"Mitigation type: `{mitigation_type}` not supported")
        classifier = self._classifier(x_val)
        scan = self._scan(classifier, x_val, y_val)
        if not scan.flagged_classes:
            logger.info("No class is flagged (%s): %s", scan.verdict, scan.reason)
            return None
        repair = _mitigate(
            classifier,
            x_val,
            y_val,
            scan,
            method=sorted(mitigation_types, key="filtering".__eq__),
            max_accuracy_drop=max_accuracy_drop,
            samples=len(x_val),
            seed=self.seed,
            **options,
        )
        if set(mitigation_types) & {"unlearning", "pruning"}:
            repair.load_into(self.model)  # type: ignore[attr-defined]
        self._filter = repair.filter
        logger.info("%s", repair)
        return repair

    def predict(
        self, x: NDArray[Any], batch_size: int = 128, training_mode: bool = False, **kwargs: Any
    ) -> NDArray[Any]:
        """Classify images.

        Returns
        -------
        ndarray
            ``[N, nb_classes]`` as the classifier itself gives it. With a filter ``[N, nb_classes + 1]``: the last
            column is the class *abstain*, so that `argmax` gives `nb_classes` for the inputs that the filter rejects.
        """
        given = super().predict(x, batch_size=batch_size, training_mode=training_mode, **kwargs)  # type: ignore[misc]
        if self._filter is None:
            return given
        # Probabilities and logits that say "certainly this" and "certainly not".
        yes, no = (1.0, 0.0) if self._filter._classifier.gives_probabilities else (0.0, -np.inf)
        abstains = self.abstain(x)
        predictions = np.full((len(given), given.shape[1] + 1), no, given.dtype)
        predictions[~abstains, :-1] = given[~abstains]
        predictions[abstains, -1] = yes
        return predictions

    def abstain(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Say for each image ``[N]`` whether the filter rejects it."""
        return np.zeros(len(x), bool) if self._filter is None else self._filter.abstains(x)

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Train the model as the classifier itself does; a filter, which belongs to the weights before, is dropped."""
        super().fit(*args, **kwargs)  # type: ignore[misc]
        self.reset()

    def reset(self) -> None:
        """Drop the filter. Weights stay as they are."""
        self._filter = None

    def _classifier(self, x_val: NDArray[Any]) -> Classifier:
        mean, std = _standardisation(self.preprocessing_operations)  # type: ignore[attr-defined]
        return Classifier(
            self.model,  # type: ignore[attr-defined]
            input_shape=self.input_shape,  # type: ignore[attr-defined]
            mean=mean,
            std=std,
            layout="nchw" if self.channels_first else "nhwc",  # type: ignore[attr-defined]
            value_range=_value_range(self.clip_values, x_val),  # type: ignore[attr-defined]
        )

    def _scan(self, classifier: Classifier, x_val: NDArray[Any], y_val: NDArray[Any] | None) -> Scan:
        parameters = {name: getattr(self, name) for name in PARAMETERS}
        scan = _scan(classifier, x_val, y_val, preset="seed", seed=self.seed, samples=len(x_val), **parameters)
        for target in scan.flagged_classes:
            logger.warning("Detected potential backdoor in class: %d", target)
        return scan

    def _search(self) -> dict[str, str]:
        parameters = {name: getattr(self, name) for name in PARAMETERS if name != "norm"}
        parameters["seed"] = self.seed
        return {"preset": "seed", "norm": norm_name(self.norm), "parameters": json.dumps(parameters)}

    def _arrays(
        self, mask: NDArray[np.float32], pattern: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give both in the shape of an image, channels where the classifier has them."""
        mask = np.broadcast_to(mask, pattern.shape).copy()
        return (mask, pattern) if self.channels_first else (mask.transpose(1, 2, 0), pattern.transpose(1, 2, 0))  # type: ignore[attr-defined]


def _cleansed(classifier: Any) -> Any:
    """Give a classifier of the same kind, with the same model and settings, and the methods of `CleansedClassifier`."""
    kind: Any = type(classifier)
    cleansed: Any = object.__new__(kind if issubclass(kind, CleansedClassifier) else _kind(kind))
    # Copying by way of pickle, ART's classifiers would write their models to disk.
    cleansed.__dict__.update(classifier.__dict__)
    cleansed.reset()
    return cleansed


@functools.cache
def _kind(kind: type) -> type:
    estimator_params = [*kind.estimator_params, *PARAMETERS]  # type: ignore[attr-defined]
    return type(f"NeuralCleanse{kind.__name__}", (CleansedClassifier, kind), {"estimator_params": estimator_params})


def _standardisation(operations: list[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give mean and deviation that do what all of `operations` do one after the other."""
    mean, std = np.zeros(1), np.ones(1)
    for operation in operations:
        if not operation.apply_predict:
            continue
        if not type(operation).__name__.startswith("StandardisationMeanStd"):
            raise ParameterError(
                f"the preprocessing {type(operation).__name__} is no standardisation and cannot be differentiated "
                "here: give a classifier without it"
            )
        m, s = (np.atleast_1d(np.squeeze(np.asarray(v, np.float64))) for v in (operation.mean, operation.std))
        if m.ndim > 1 or s.ndim > 1:
            raise ParameterError("the preprocessing must have one mean and deviation, or one for each channel")
        mean, std = mean + m * std, std * s
    return mean, std


def _value_range(clip_values: Any, x: NDArray[Any]) -> tuple[float, float]:
    if clip_values is not None:
        low, high = (np.unique(np.asarray(bound, np.float64)) for bound in clip_values)
        if len(low) != 1 or len(high) != 1:
            raise ParameterError("clip_values must be the same for all pixels")
        return float(low[0]), float(high[0])
    for largest in (1.0, 255.0):
        if np.min(x) >= 0 and np.max(x) <= largest:
            return 0.0, largest
    raise DataError("the classifier has no clip_values, and x is neither in 0..1 nor in 0..255: give it clip_values")


__all__ = ["CleansedClassifier", "NeuralCleanse"]
