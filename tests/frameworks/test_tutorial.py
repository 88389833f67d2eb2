"""The tutorial runs, and what it says is so."""

import runpy
from pathlib import Path


def test_the_tutorial():
    told = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "tutorial.py"))
    assert told["accuracy"] > 0.95 and told["success"] > 0.95
    assert told["scan"].flagged_classes == [1]
    assert told["accuracy_after"] > told["accuracy"] - 0.05 and told["success_after"] < 0.1
    assert 1 not in told["verified"].flagged_classes
    assert told["table"].loc[1, "flagged"] and len(told["figure"].axes) == 5
