"""Commands about several scans, and what is said on standard error."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from command import CLEAN, FIXTURES, run

QUICK = ["--steps", "30", "--engine", "rten"]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """The summary's folder of a backdoored, a clean and a torn model, and how the command ended."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "below").mkdir()
    shutil.copy(FIXTURES / "fmnist_badnets.onnx", folder)
    shutil.copy(FIXTURES / "fmnist_clean.onnx", folder / "below" / "a, b.onnx")
    (folder / "torn.onnx").write_bytes((FIXTURES / "fmnist_clean.onnx").read_bytes()[:1000])
    ended = run("scan-all", folder, "--out", folder / "scans", "--jobs", 2, "--", *CLEAN, "--engine", "rten", status=1)
    return folder / "scans", ended


def test_all_models_are_scanned_and_failures_are_rows(scanned):
    out, ended = scanned
    rows = json.loads((out / "summary.json").read_text())["models"]
    assert [Path(row["model"]).name for row in rows] == ["a, b.onnx", "fmnist_badnets.onnx", "torn.onnx"]
    assert [row["verdict"] for row in rows] == ["clean", "backdoored", None]
    assert "torn.onnx" in rows[2]["reason"] and rows[2]["report"] is None
    assert all((out / row["report"]).exists() for row in rows[:2])
    assert [line.split()[1] for line in ended.stdout.splitlines() if "fmnist_badnets" in line] == ["backdoored"]
    table = list(csv.DictReader((out / "summary.csv").open(newline="")))
    assert [(row["verdict"], row["flagged_classes"]) for row in table] == [("clean", ""), ("backdoored", "7"), ("failed", "")]
    assert table[0]["model"].endswith("a, b.onnx")
    assert "1 of 3 models backdoored, 1 clean, 0 inconclusive, 1 failed" in (out / "index.html").read_text()


def test_a_list_is_read_and_wrong_scan_options_are_refused_before_any_scan(tmp_path):
    (tmp_path / "list.txt").write_text("gone.onnx\n")
    out = tmp_path / "out"
    ended = run("scan-all", tmp_path / "list.txt", "--out", out, "--json", "--", *CLEAN, status=2)
    assert "gone.onnx" in json.loads(ended.stdout)["models"][0]["reason"]
    refused = run("scan-all", tmp_path / "list.txt", "--out", tmp_path / "none", "--", "--stepz", "3", status=2)
    assert "--stepz" in refused.stderr and not (tmp_path / "none").exists()


def test_two_scans_stand_side_by_side(scanned, tmp_path):
    out, _ = scanned
    run("scan", FIXTURES / "fmnist_badnets.onnx", *CLEAN, *QUICK, "--out", tmp_path)
    ended = run("compare", out / "fmnist_badnets", tmp_path / "scan.json", status=0)
    [line] = [line for line in ended.stdout.splitlines() if "FLAGGED" in line]
    assert line.split()[0] == "7"
    assert "not made alike: they differ in steps" in ended.stderr
    both = json.loads(run("compare", "--json", out / "fmnist_badnets", out / "below" / "a, b", status=0).stdout)
    assert (both["first"]["verdict"], both["second"]["verdict"], both["differences"]) == ("backdoored", "clean", [])
    assert [row["target_class"] for row in both["classes"]] == list(range(10))


def test_messages_are_as_wanted(tmp_path):
    words = ["scan", FIXTURES / "fmnist_badnets.onnx", *CLEAN, *QUICK, "--out", tmp_path, "--classes", "1,7,8,9"]
    assert run(*words, "-q").stderr == ""
    plain = run(*words).stderr.splitlines()
    assert len(plain) == 1 and plain[0].startswith("engine rten")
    assert sum(line.startswith("class ") for line in run(*words, "-v").stderr.splitlines()) >= 4
    logged = [json.loads(line) for line in run(*words, "-v", "--log-format", "json").stderr.splitlines()]
    assert {entry["class"] for entry in logged if entry["level"] == "DEBUG"} == {1, 7, 8, 9}
    failed = run("scan", "gone.onnx", *CLEAN, "--log-format", "json", status=2).stderr
    assert (json.loads(failed)["level"], "gone.onnx" in failed) == ("ERROR", True)
    assert run("scan", "gone.onnx", *CLEAN, "-q", status=2).stderr.startswith("error: ")


def test_the_demo_finds_the_backdoor_and_repairs_the_model(tmp_path):
    ended = run("demo", "--out", tmp_path / "demo", status=0)
    verdicts = [line for line in ended.stdout.splitlines() if line.startswith("verdict: ")]
    assert verdicts == ["verdict: backdoored", "verdict: clean"]
    for page in ("before/report.html", "mitigation.html", "after/report.html"):
        assert (tmp_path / "demo" / page).read_text().startswith("<!doctype html>")
    assert (tmp_path / "demo" / "model.onnx").read_bytes() == (FIXTURES / "fmnist_badnets.onnx").read_bytes()


def test_the_manual_and_completions_know_every_command(tmp_path):
    run("man", tmp_path, status=0)
    commands = [page.stem.removeprefix("neural-cleanse-") for page in tmp_path.glob("neural-cleanse-*.1")]
    assert {"scan", "scan-all", "compare", "mitigate", "demo"} <= set(commands)
    for shell in ("bash", "zsh", "fish", "powershell", "elvish"):
        script = run("completions", shell, status=0).stdout
        assert all(command in script for command in commands), shell
