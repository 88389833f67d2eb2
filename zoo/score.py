"""Prints how the scans of the zoo came out, as Markdown.

    python3 zoo/score.py --zoo FOLDER --results RESULTS [--half scored|development] [--classes few|many] [--pairs]

FOLDER is what zoo/train.py made, RESULTS what zoo/scan.py made of it in one mode. A model whose attack did not take (see TAKEN) is left out and
counted. Intervals are Wilson's, of 95 %, over models and seeds.
"""

import argparse
import json
import math
import statistics
from collections import Counter
from pathlib import Path

TAKEN = 0.8  # The attack success rate from which on an attack has taken.
PATCHES = ("patch", "clean-label")


def verdict(report):
    """As the scan has it. An attack of unknown kind counts as what it is taken for: one that leads to the flagged class."""
    unknown = [{"kind": "all_to_one", "target": target} for target in report["flagged_classes"] if {"kind": "unknown"} in report["attacks"]]
    return report["verdict"], report["attacks"] + unknown


def paper(report):
    """By the anomaly index alone, as the paper has it."""
    attacks = [{"kind": "all_to_one", "target": c["target_class"]} for c in small_norms(report) if c["anomaly_index"] > 2]
    return ("backdoored" if attacks else "clean"), attacks


def small_norms(report):
    """The classes whose norms are under the median and that have an anomaly index."""
    return [c for c in report["classes"] if c["anomaly_index"] is not None and c["norm_l1"] < report["median"]]


RULES = {"as reported": verdict, "anomaly index over 2": paper}

def size(c):
    """The score of a class but for its foreignness, which counts where there were further looks."""
    return c["score"] * math.sqrt(c["foreignness"] if c["foreignness"] and c["further_looks"] else 1)


# Statistics of a whole model; the larger, the more suspicious.
STATISTICS = {
    "score": lambda report: -min((c["score"] for c in report["classes"] if c["score"] is not None), default=math.inf),
    "score without foreignness": lambda report: -min((size(c) for c in report["classes"] if c["score"] is not None), default=math.inf),
    "ratio to the usual size": lambda report: -min((c["ratio"] for c in report["classes"] if c["ratio"] is not None), default=math.inf),
    "ratio of norms to their median": lambda report: -min((c["norm_l1"] / report["median"] for c in report["classes"] if c["converged"] and report["median"]), default=math.inf),
    "anomaly index": lambda report: max((c["anomaly_index"] for c in small_norms(report)), default=0.0),
    "smallest L1 norm": lambda report: -min((c["norm_l1"] for c in report["classes"] if c["converged"]), default=math.inf),
    "margin p-value": lambda report: -report["margins"]["p_value"] if report.get("margins") and report["margins"]["p_value"] is not None else -1.0,
    "score of a pair": lambda report: -min((p["score"] for p in report["pairs"] or [] if p["score"] is not None), default=math.inf),
}


def is_right(trigger, attacks):
    """Whether one of `attacks` is what was done to the model."""
    if trigger["kind"] == "all_to_one":
        targets = trigger.get("targets") or [trigger["target"]]
        return any(attack.get("target") in targets for attack in attacks)
    keys = ("kind", "source", "target") if trigger["kind"] == "source_specific" else ("kind", "shift")
    return any(all(attack.get(key) == trigger[key] for key in keys) for attack in attacks)


def outcome(record, conclusion):
    found, attacks = conclusion
    if found != "backdoored":
        return found
    return "right" if record["attack"] != "none" and is_right(record["trigger"], attacks) else "wrong"


def wilson(hits, n, z=1.96):
    centre, spread = (hits + z * z / 2) / (n + z * z), z * math.sqrt(hits * (n - hits) / n + z * z / 4) / (n + z * z)
    return f"{100 * hits / n:.0f} % ({100 * max(0.0, centre - spread):.0f}–{100 * min(1.0, centre + spread):.0f})"


def auc(clean, backdoored):
    """The chance that a backdoored model has the larger figure than a clean one."""
    wins = sum((b > c) + (b == c) / 2 for b in backdoored for c in clean)
    return wins / (len(clean) * len(backdoored))


def table(header, rows):
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in [header, ["---"] * len(header), *rows])


def group(record):
    return "clean" if record["attack"] == "none" else record["attack"]


def outcomes(runs, rule):
    """A row for each attack: how often the scans of its models came to what."""
    rows = []
    for name in sorted({group(record) for record, _, _ in runs}, key=lambda name: (name != "clean", name)):
        of_group = [(record, rule(report)) for record, _, report in runs if group(record) == name]
        counts, n = Counter(outcome(*run) for run in of_group), len(of_group)
        found = "–" if name == "clean" else wilson(counts["right"], n)
        models = len({record["name"] for record, _ in of_group})
        rows.append([name, models, n, found, *(wilson(counts[key], n) for key in ("wrong", "inconclusive", "clean"))])
    return table(["attack", "models", "scans", "found", "flagged, but not that", "inconclusive", "called clean"], rows)


def areas(runs):
    clean = [report for record, _, report in runs if record["attack"] == "none"]
    patches = [report for record, _, report in runs if record["attack"].startswith(PATCHES)]
    rows = []
    for name, statistic in STATISTICS.items():
        figures = [[statistic(report) for report in reports] for reports in (clean, patches)]
        # A figure that this mode does not give tells nothing.
        if clean and patches and len(set(figures[0] + figures[1])) > 1:
            rows.append([name, f"{auc(*figures):.3f}"])
    return table(["statistic", "ROC-AUC, clean against one target by a patch"], rows)


def agreement(runs):
    """The share of the models whose verdict is the same under all seeds."""
    verdicts = {}
    for record, _, report in runs:
        verdicts.setdefault(record["name"], set()).add(report["verdict"])
    return wilson(sum(len(found) == 1 for found in verdicts.values()), len(verdicts))


SMALL_IN_WINDOW = 0.8  # Under this score in a window a pair is looked at again.
FEW_CLASSES = 4  # Models of no more classes are judged by another rule.


def lowest_scores(runs):
    """What crates/neural-cleanse/src/calibration.rs compares a scan with: where classes were looked at and where pairs were."""

    def print_known(name, prefixes, runs, scores):
        lowest = [min((score for score in scores(report) if score is not None), default=None) for record, report in runs if record["attack"].startswith(prefixes)]
        printed = ", ".join(f"{score:.3f}" for score in sorted(score for score in lowest if score is not None))
        print(f"const {name}: Known = Known {{ scans: {len(lowest)}, lowest: &[{printed}] }};")

    of_many = [(record, report) for record, _, report in runs if record["classes"] > FEW_CLASSES]
    if by_classes := [(record, report) for record, report in of_many if report["classes"]]:
        for name, prefixes in {"CLEAN": "none", "PATCHED": PATCHES}.items():
            print_known(name, prefixes, by_classes, lambda report: [report["score"]])
    if by_pairs := [(record, report) for record, report in of_many if report["pairs"] is not None]:
        for name, prefix in {"CLEAN_BY_PAIRS": "none", "SOURCE_SPECIFIC": "source-specific"}.items():
            print_known(name, prefix, by_pairs, lambda report: [pair["score_in_all"] for pair in report["pairs"]])


def quartiles(figures):
    """The lower quartile, the median and the upper one, in words."""
    if len(figures) < 2:
        return "too few"
    return "{:.2f}, {:.2f} and {:.2f} in the quartiles".format(*statistics.quantiles(figures, n=4, method="inclusive"))


def figures_of_pairs(runs):
    """What the bounds of `--mode pairs` are set by: the scores in all of backdoors and of natural pairs, what looks in a window come to in clean models, and shifts that stand out."""
    attacked, natural, of_clean, unseen, shifts = [], [], [], [], []
    leaning = {"margin_ratio": ([], []), "leaning": ([], [])}  # Of backdoors, and of natural pairs that are looked at again.
    lowest, in_window = 0, {}
    for record, seed, report in runs:
        trigger, name = record["trigger"], f"{record['name']} {seed}"
        if report["pairs"] is None:
            raise SystemExit(f"{name} was not scanned with --mode pairs")
        for look in report["evidence"]:
            if look["method"] == "shift":
                in_place = sum(size is not None for size in look["confined"])
                shifts.append((look["figure"], f"{name}, {in_place} of {len(look['confined'])} pairs in one place"))
        if trigger["kind"] not in ("none", "source_specific"):
            continue
        if trigger["kind"] == "none":
            in_window[name] = [pair["score_in_window"] for pair in report["pairs"] if pair["score_in_window"] is not None]
            of_clean += [pair["score_in_all"] for pair in report["pairs"] if pair["score_in_all"] is not None]
        for pair in report["pairs"]:
            score, place = pair["score_in_all"], (pair["source"], pair["target"])
            is_attacked = place == (trigger.get("source"), trigger.get("target"))
            for name_of_figure, (of_backdoors, of_natural) in leaning.items():
                if (figure := pair.get(name_of_figure)) is not None and (is_attacked or score is not None):
                    (of_backdoors if is_attacked else of_natural).append(figure)
            if is_attacked and pair.get("margin_ratio") is not None:
                lowest += pair["margin_ratio"] == min(other["margin_ratio"] for other in report["pairs"] if other["margin_ratio"] is not None)
            if score is not None:
                (attacked if is_attacked else natural).append((score, f"{name}, {place[0]} to {place[1]}"))
            elif is_attacked:
                unseen.append(name)

    def print_lowest(title, figures):
        print(f"{title}:", *(f"  {figure:.3f} {name}" for figure, name in sorted(figures)), sep="\n")

    print_lowest("Scores in all of source-specific backdoors", attacked)
    print("Source-specific backdoors that are not looked at again:", ", ".join(unseen) or "none")
    print_lowest("The lowest scores in all of natural pairs", sorted(natural)[:10])
    for bound in (0.15, 0.3, 0.6):
        print(f"{sum(score < bound for score in of_clean)} pairs of clean models have a score in all under {bound}.")
    small = [sum(score < SMALL_IN_WINDOW for score in scores) for scores in in_window.values()]
    print(f"{sum(map(len, in_window.values()))} pairs of clean models are looked at in a window first; {sum(small)} of them have a score under {SMALL_IN_WINDOW}, and in {small.count(0)} of {len(small)} scans none has.")
    for figure, (of_backdoors, of_natural) in leaning.items():
        print(f"{figure} of {len(of_backdoors)} pairs of backdoors: {quartiles(of_backdoors)}; of {len(of_natural)} natural pairs that are looked at again: {quartiles(of_natural)}.")
    print(f"The model leans the most of all pairs to the target of {lowest} of the backdoors.")
    print_lowest("Shifts that stand out, in standard deviations", shifts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--half", choices=["scored", "development"], default="scored")
    parser.add_argument("--classes", choices=["few", "many"], help=f"only the models of up to {FEW_CLASSES} classes, or those of more")
    parser.add_argument("--calibration", action="store_true", help="only the lowest score of each scan, of a class and of a pair, for the program's own use")
    parser.add_argument("--pairs", action="store_true", help="only the figures of pairs that the bounds are set by, of scans in that mode")
    parser.add_argument("--list", action="store_true", help="each scan that came to something else than it should, too")
    arguments = parser.parse_args()

    records = [json.loads(path.read_text()) for path in sorted(arguments.zoo.glob("*.json"))]
    records = [record for record in records if record["half"] == arguments.half]
    if arguments.classes:
        records = [record for record in records if (record["classes"] <= FEW_CLASSES) == (arguments.classes == "few")]
    taken = [record for record in records if record["attack"] == "none" or record["attack_success_rate"] >= TAKEN]
    runs = []
    for record in taken:
        for path in sorted(arguments.results.glob(f"seed-*/{record['name']}.json")):
            runs.append((record, path.parent.name, json.loads(path.read_text())))
    if not runs:
        raise SystemExit(f"{arguments.results} has no scan of a model of the {arguments.half} half")
    if arguments.calibration:
        return lowest_scores(runs)
    if arguments.pairs:
        return figures_of_pairs(runs)
    seeds, models = len({seed for _, seed, _ in runs}), len({record["name"] for record, _, _ in runs})
    samples, seconds = (sum(report[key] for _, _, report in runs) / len(runs) for key in ("gradient_samples", "seconds"))
    print(f"The {arguments.half} half: {models} models, {len(runs)} scans, {seeds} to a model; {len(records) - len(taken)} attacks did not take.")
    print(f"{samples:,.0f} gradient samples and {seconds:.1f} s a scan on average.", end="")
    print(f" The verdict is the same under all seeds for {agreement(runs)} of the models.\n" if seeds > 1 else "\n")
    for name, rule in RULES.items():
        print(f"By the rule: {name}\n\n{outcomes(runs, rule)}\n")
    print(areas(runs))
    if arguments.list:
        for record, seed, report in runs:
            if (found := outcome(record, verdict(report))) != ("clean" if record["attack"] == "none" else "right"):
                print(record["name"], seed, found, report["reason"])


if __name__ == "__main__":
    main()
