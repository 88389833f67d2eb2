"""Scans as text, HTML and figures."""

from __future__ import annotations

import base64
import html as _html
from typing import TYPE_CHECKING, Any

from ._classes import ClassScan, DroppedClass

if TYPE_CHECKING:
    import matplotlib.figure

    from ._scan import Scan

COLUMNS = ("class", "name", "L1 norm", "ratio", "anomaly index", "ASR", "steps", "state")

PANELS = 4
"""How many triggers a figure shows."""


def text(scan: Scan) -> str:
    """Give the table that the command prints."""
    if not scan.report["classes"]:
        return "\n".join(_conclusion(scan))
    rows = [COLUMNS, *map(_cells, _all_classes(scan))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *_conclusion(scan)])


def html(scan: Scan) -> str:
    """Give a table with the pictures of the triggers."""
    head = "".join(f"<th>{_html.escape(column)}</th>" for column in (*COLUMNS, "trigger"))
    body = "".join(_row(scan, figures) for figures in _all_classes(scan))
    verdict, *rest = map(_html.escape, _conclusion(scan))
    return f"<div><p><b>{verdict}</b><br>{'<br>'.join(rest)}</p><table><tr>{head}</tr>{body}</table></div>"


def _all_classes(scan: Scan) -> list[ClassScan | DroppedClass]:
    return sorted([*scan.classes, *scan.dropped], key=lambda c: c.target_class)


def _row(scan: Scan, figures: ClassScan | DroppedClass) -> str:
    cells = "".join(f"<td>{_html.escape(cell)}</td>" for cell in _cells(figures))
    picture = scan._pictures.get((None, figures.target_class))
    shown = ""
    if picture:
        source = base64.b64encode(picture).decode()
        alt = f"mask, pattern, trigger and a sample with it, of class {figures.target_class}"
        shown = f'<img height="48" alt="{alt}" src="data:image/png;base64,{source}">'
    flagged = figures.target_class in scan.flagged_classes
    weight = ' style="font-weight: bold"' if flagged else ""
    return f"<tr{weight}>{cells}<td>{shown}</td></tr>"


def _cells(figures: ClassScan | DroppedClass) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    if isinstance(figures, DroppedClass):
        norm, steps = number(figures.norm_l1), str(figures.steps)
        return str(figures.target_class), figures.name, norm, "–", "–", "–", steps, "dropped"
    return (
        str(figures.target_class),
        figures.name,
        number(figures.norm_l1),
        number(figures.ratio),
        number(figures.anomaly_index),
        f"{figures.attack_success_rate:.3f}",
        str(figures.steps),
        "FLAGGED" if figures.flagged else "" if figures.converged else "not converged",
    )


def _conclusion(scan: Scan) -> list[str]:
    lines = [f"verdict: {scan.verdict}", f"reason: {scan.reason}"]
    if scan.clean_accuracy is not None:
        lines.append(f"clean accuracy {100 * scan.clean_accuracy:.1f} %")
    return lines


def plot(scan: Scan) -> matplotlib.figure.Figure:
    """Draw the norms of all classes with the bound, and the smallest triggers under their masks."""
    from matplotlib.figure import Figure

    classes = scan.classes
    smallest = sorted((c for c in classes if c.ratio is not None), key=lambda c: c.ratio or 0)[:PANELS]
    figure = Figure(figsize=(9, 6), layout="constrained")
    grid = figure.add_gridspec(2, max(len(smallest), 1), height_ratios=(3, 2))
    _draw_norms(figure.add_subplot(grid[0, :]), scan)
    for i, figures in enumerate(smallest):
        _draw_trigger(figure.add_subplot(grid[1, i]), figures)
    return figure


def _draw_norms(axes: Any, scan: Scan) -> None:
    """Draw a bar for each class, those that were dropped or did not converge in grey."""
    classes = _all_classes(scan)
    positions = range(len(classes))
    statistic = "norm_inf" if scan.report["parameters"]["norm"] == "inf" else "norm_l1"
    sure = {c.target_class for c in scan.classes if c.converged}
    flagged = set(scan.flagged_classes)
    colours = [
        "tab:red" if c.target_class in flagged else "tab:blue" if c.target_class in sure else "lightgrey"
        for c in classes
    ]
    mad, threshold = scan.report["mad"], scan.report["threshold"]
    by_ratio = scan.report["rule"]["name"] == "ratio"
    usual = scan.report["usual_size" if by_ratio else "median"]

    def height(c: ClassScan | DroppedClass) -> float:
        """Give what the rule compares with its bound."""
        score = getattr(c, "score", None)
        return score * usual if by_ratio and score is not None else getattr(c, statistic, None) or 0

    axes.bar(positions, [height(c) for c in classes], color=colours)
    if usual is not None:
        axes.axhline(usual, color="black", linewidth=1, label="usual size" if by_ratio else "median")
        bound = threshold * usual if by_ratio else usual - threshold * (mad or 0)
        axes.axhline(bound, color="tab:red", linewidth=1, linestyle="--", label="flagged below")
        axes.legend()
    if len(classes) <= 50:
        axes.set_xticks(positions, [c.name for c in classes], rotation=90 if len(classes) > 12 else 0)
    label = "largest mask value" if statistic == "norm_inf" else "score × usual size, in pixels" if by_ratio else "L1 norm of the mask"
    axes.set(xlabel="class", ylabel=label)
    axes.set_title(f"{scan.report['model']['path']}: {scan.verdict}")


def _draw_trigger(axes: Any, figures: ClassScan) -> None:
    pattern, mask = figures.trigger.pattern, figures.trigger.mask
    if figures.trigger.range is None:
        low, high = float(pattern.min()), float(pattern.max())
        shown = mask * (pattern - low) / max(high - low, 1e-12)
    else:
        low, high = figures.trigger.range
        shown = 0.5 + pattern / (2 * (high - low))
    axes.imshow(shown[:3].transpose(1, 2, 0) if len(shown) >= 3 else shown[0], vmin=0, vmax=1, cmap="gray")
    axes.set_title(f"{figures.name}: {figures.ratio:.2f}")
    axes.set_axis_off()
