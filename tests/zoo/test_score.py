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


def test_the_figures_of_pairs_tell_backdoors_from_natural_ones(capsys):
    def pair(source, target, in_all=None, in_window=None, margin_ratio=None, leaning=None):
        return {"source": source, "target": target, "score_in_all": in_all, "score_in_window": in_window, "margin_ratio": margin_ratio, "leaning": leaning}

    def scanned(record, pairs, evidence=()):
        return ({"name": record["trigger"]["kind"], **record}, "seed-0", {**report("clean"), "pairs": pairs, "evidence": list(evidence)})

    shift = {"method": "shift", "figure": 3.5, "confined": [0.2, None, 0.3]}
    attacked = model("source_specific", source=3, target=1)
    score.figures_of_pairs([
        scanned(model("none"), [pair(0, 1, 0.4, 0.3, 0.9, 1.0), pair(0, 2, None, 1.0, 0.1, 9.0), pair(1, 2)]),
        scanned(attacked, [pair(3, 1, 0.05, 0.1, 0.4, 4.0), pair(1, 3, 0.6, None, 1.1, -1.0)]),
        scanned(attacked, [pair(3, 1, None, None, 0.6, 3.0), pair(2, 1, None, None, 0.5, 3.5)]),
        scanned(model("all_to_all", shift=1), [pair(0, 1, 0.01)], [shift]),
        # The pairs of a column are natural as little.
        scanned(model("all_to_one", target=1), [pair(0, 1, 0.02)]),
    ])  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "Scores in all of source-specific backdoors:",
        "  0.050 source_specific seed-0, 3 to 1",
        "Source-specific backdoors that are not looked at again: source_specific seed-0",
        "The lowest scores in all of natural pairs:",
        "  0.400 none seed-0, 0 to 1",
        "  0.600 source_specific seed-0, 1 to 3",
        "0 pairs of clean models have a score in all under 0.15.",
        "0 pairs of clean models have a score in all under 0.3.",
        "1 pairs of clean models have a score in all under 0.6.",
        "2 pairs of clean models are looked at in a window first; 1 of them have a score under 0.8, and in 0 of 1 scans none has.",
        "margin_ratio of 2 pairs of backdoors: 0.45, 0.50 and 0.55 in the quartiles; of 2 natural pairs that are looked at again: 0.95, 1.00 and 1.05 in the quartiles.",
        "leaning of 2 pairs of backdoors: 3.25, 3.50 and 3.75 in the quartiles; of 2 natural pairs that are looked at again: -0.50, 0.00 and 0.50 in the quartiles.",
        "The model leans the most of all pairs to the target of 1 of the backdoors.",
        "Shifts that stand out, in standard deviations:",
        "  3.500 all_to_all seed-0, 2 of 3 pairs in one place",
    ]
    with pytest.raises(SystemExit, match="--mode pairs"):
        score.figures_of_pairs([(model("none") | {"name": "a"}, "seed-0", report("clean"))])


def test_the_program_is_told_the_lowest_score_of_each_scan_and_how_many_have_none(capsys):
    def scanned(attack, classes, score=None, pairs=None):
        return ({"attack": attack, "classes": 10}, "seed-0", {**report("clean", classes=classes), "score": score, "pairs": pairs})

    def pairs(*scores):
        return [{"score_in_all": score} for score in scores]

    score.lowest_scores([
        scanned("none", [{}], 0.91234),
        scanned("none", [{}], 0.5),
        scanned("none", [{}]),
        scanned("patch-3-corner-white", [{}], 0.1),
        scanned("source-specific", [{}], 0.7),
        scanned("none", [], pairs=pairs(None, 0.4, 0.3)),
        scanned("none", [], pairs=pairs(None)),
        scanned("source-specific-6", [], pairs=pairs(0.1, None)),
        ({"attack": "none", "classes": 4}, "seed-0", {**report("clean"), "score": 0.2, "pairs": pairs(0.2)}),
    ])  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "const CLEAN: Known = Known { scans: 3, lowest: &[0.500, 0.912] };",
        "const PATCHED: Known = Known { scans: 1, lowest: &[0.100] };",
        "const CLEAN_BY_PAIRS: Known = Known { scans: 2, lowest: &[0.300] };",
        "const SOURCE_SPECIFIC: Known = Known { scans: 1, lowest: &[0.100] };",
    ]


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
