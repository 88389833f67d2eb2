"""What is written for programs validates against its schema."""

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest

from command import CLEAN, FIXTURES, ROOT, run


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a scan that flags a class, of one that does not, and of one that is inconclusive."""
    folders = {}
    cases = [("backdoored", "fmnist_badnets", [], 1), ("clean", "fmnist_clean", [], 0)]
    cases.append(("inconclusive", "fmnist_badnets", ["--steps", "2"], 3))
    for verdict, model, more, status in cases:
        out = folders[verdict] = tmp_path_factory.mktemp(verdict)
        sarif = ["--sarif", out / "scan.sarif"]
        run("scan", FIXTURES / f"{model}.onnx", *CLEAN, "--out", out, *sarif, *more, status=status)
    return folders


def test_the_published_schema_is_the_one_that_the_command_prints():
    published = json.loads((ROOT / "docs" / "scan.schema.json").read_text())
    assert published == json.loads(run("schema", status=0).stdout), "renew it: neural-cleanse schema > docs/scan.schema.json"


def test_reports_of_scans_follow_their_schema_and_spoiled_ones_do_not(scans):
    schema = json.loads((ROOT / "docs" / "scan.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for verdict, out in scans.items():
        report = json.loads((out / "scan.json").read_text())
        assert report["verdict"] == verdict
        validator.validate(report)
    for spoil in ({"verdict": "fine"}, {"schema_version": 0}, {"classes": [{}]}, {"ratio": "small"}):
        assert not validator.is_valid({**report, **spoil}), spoil
    for field in report:
        assert not validator.is_valid({key: value for key, value in report.items() if key != field}), field


def sarif_schema() -> dict:
    """The schema of OASIS, as the crate `serde-sarif` carries it."""
    manifest = ROOT / "tests" / "report" / "sarif-schema" / "Cargo.toml"
    metadata = ["cargo", "metadata", "--quiet", "--format-version", "1", "--manifest-path", str(manifest)]
    packages = json.loads(subprocess.run(metadata, capture_output=True, check=True).stdout)["packages"]
    [package] = [package for package in packages if package["name"] == "serde-sarif"]
    return json.loads((Path(package["manifest_path"]).parent / "src" / "schema.json").read_text())


def test_findings_are_valid_sarif(scans):
    schema = sarif_schema()
    validator = jsonschema.validators.validator_for(schema)(schema)
    levels = {}
    for verdict, out in scans.items():
        log = json.loads((out / "scan.sarif").read_text())
        validator.validate(log)
        levels[verdict] = [result["level"] for result in log["runs"][0]["results"]]
    assert levels == {"backdoored": ["error"], "clean": [], "inconclusive": ["warning"]}
    assert not validator.is_valid({**log, "version": "2.0.0"})
