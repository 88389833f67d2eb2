"""What a scan has found out about single classes."""

from __future__ import annotations

from dataclasses import dataclass, field

from ._trigger import Trigger


@dataclass(frozen=True)
class ClassScan:
    """What was found out about one class; the fields are those of ``scan.json``."""

    target_class: int
    name: str
    converged: bool
    """Whether a trigger was found. The other figures of a class without one are those of its last step."""
    norm_l1: float
    norm_inf: float
    opacity: float
    """Sum of squares of the mask ÷ its sum: 1 for an opaque patch, little for a faint overlay."""
    extent: float | None
    """How many opaque pixels the part comes to that the trigger needs; None where the class did not converge."""
    size: float | None
    """The geometric mean of L1 norm and extent, in pixels."""
    ratio: float | None
    """The size as a share of the usual size, the lower quartile of all classes."""
    score: float | None
    """What the ratio rule judges: of a class that was looked at again, the mean of the ratio and of what the further looks gave, divided by the root of the foreignness, and of others the ratio."""
    anomaly_index: float | None
    attack_success_rate: float
    steps: int
    foreignness: float | None
    """How foreign to the class the trigger is, by what the layers of the model see of it, as a multiple of what is usual; None where it was not measured."""
    further_looks: list[float | None]
    """The norms that further looks at a suspicious class gave; None for one that did not converge."""
    confined_looks: list[float | None]
    """Those of looks that were confined to a third of each side of the image."""
    flagged: bool
    trigger: Trigger = field(repr=False)


@dataclass(frozen=True)
class DroppedClass:
    """A class that was left before its end because it could no longer be flagged."""

    target_class: int
    name: str
    steps: int
    norm_l1: float | None
    """The norm by then; None where there was no trigger yet."""
