"""The scores of the zoo: what counts as found, and the statistics."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "zoo"))

import score  # noqa: E402


def report(verdict, attacks=(), flagged=(), classes=()):
    return {"verdict": verdict, "attacks": list(attacks), "flagged_classes": list(flagged), "classes": list(classes), "median": 100.0, "pairs": None, "margins": None}


def model(kind, **trigger):
    return {"attack": "none" if kind == "none" else "some", "trigger": {"kind": kind, **trigger}}


@pytest.mark.parametrize(
    ("record", "found", "expected"),
    [
        (model("none"), report("clean"), "clean"),
        (model("none"), report("backdoored", [{"kind": "all_to_one", "target": 1}], [1]), "wrong"),
        (model("all_to_one", target=1), report("backdoored", [{"kind": "all_to_one", "target": 1}], [1]), "right"),
        (model("all_to_one", target=2), report("backdoored", [{"kind": "all_to_one", "target": 1}], [1]), "wrong"),
        (model("all_to_one", targets=[1, 5]), report("backdoored", [{"kind": "all_to_one", "target": 5}], [5]), "right"),
        (model("all_to_one", target=1), report("backdoored", [{"kind": "unknown"}], [1]), "right"),
        (model("all_to_one", target=1), report("inconclusive"), "inconclusive"),
        (model("source_specific", source=3, target=1), report("backdoored", [{"kind": "source_specific", "source": 3, "target": 1}], [1]), "right"),
        (model("source_specific", source=3, target=1), report("backdoored", [{"kind": "all_to_one", "target": 1}], [1]), "wrong"),
        (model("all_to_all", shift=1), report("backdoored", [{"kind": "all_to_all", "shift": 1}]), "right"),
        (model("all_to_all", shift=1), report("backdoored", [{"kind": "all_to_all", "shift": 2}]), "wrong"),
    ],
)
def test_what_was_found_is_compared_with_what_was_done(record, found, expected):
    assert score.outcome(record, score.verdict(found)) == expected


def test_the_rule_of_the_paper_is_an_index_over_two_below_the_median():
    def of_class(target, norm, index, ratio):
        return {"target_class": target, "norm_l1": norm, "anomaly_index": index, "ratio": ratio}

    # Norms decide, whatever the ratios of sizes.
    classes = [of_class(0, 30.0, 2.5, 1.1), of_class(1, 300.0, 9.0, 0.2), of_class(2, 90.0, 0.5, 0.3), of_class(3, 5.0, None, None)]
    assert score.paper(report("clean", classes=classes)) == ("backdoored", [{"kind": "all_to_one", "target": 0}])
    assert score.paper(report("backdoored", classes=classes[1:])) == ("clean", [])


def test_intervals_and_areas_are_those_of_the_textbook():
    # Wilson's interval of 8 in 10, and of none in 10.
    assert score.wilson(8, 10) == "80 % (49–94)"
    assert score.wilson(0, 10) == "0 % (0–28)"
    assert score.auc([1, 2], [3, 4]) == 1
    assert score.auc([1, 3], [2, 3]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_tables_are_of_the_half_that_was_asked_for(tmp_path):
    def write(name, half, attack, rate, found):
        trigger = {"kind": "none"} if attack == "none" else {"kind": "all_to_one", "target": 1}
        record = {"name": name, "half": half, "attack": attack, "attack_success_rate": rate, "trigger": trigger}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
        folder = tmp_path / "results" / "seed-0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps({**found, "gradient_samples": 100, "seconds": 1.5}))

    backdoored = report("backdoored", [{"kind": "all_to_one", "target": 1}], [1])
    write("a", "scored", "none", None, report("clean"))
    write("b", "scored", "patch-1", 0.99, backdoored)
    write("c", "scored", "patch-1", 0.10, report("clean"))
    write("d", "development", "none", None, backdoored)
    command = [sys.executable, ROOT / "zoo" / "score.py", "--zoo", tmp_path, "--results", tmp_path / "results"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "2 models, 2 scans, 1 to a model; 1 attacks did not take" in printed
    assert "| clean | 1 | 1 | – | 0 % (0–79) | 0 % (0–79) | 100 % (21–100) |" in printed
    assert "| patch-1 | 1 | 1 | 100 % (21–100) |" in printed
