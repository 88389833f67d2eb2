"""The documents do what they say: their `console` examples are run, and their links lead somewhere.

In an example, a line that begins with `$` is run, in a folder that has `fixtures` and is shared by a page; it has to
succeed, or to end as `# exit status N` after it says. The lines below it are what it prints, where `…` stands for anything: for any lines where it is
a line of its own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from command import ROOT, command

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def examples(page: Path) -> list[tuple[str, int, list[str]]]:
    """The commands of a page, each with its exit status and the lines that it prints."""
    found = []
    for indent, block in BLOCK.findall(page.read_text()):
        lines = [line.removeprefix(indent) for line in block.splitlines()]
        # What a demo runs is part of what it prints.
        of_one = lines[0] == "$ neural-cleanse demo"
        for i, line in enumerate(lines):
            if line.startswith("$ ") and not (of_one and i > 0):
                status = re.search(r"# exit status (\d+)$", line)
                found.append((line[2:], int(status[1]) if status else 0, []))
            else:
                found[-1][2].append(line)
    return found


def pattern(lines: list[str]) -> str:
    parts = []
    for line in lines:
        if line == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(part.rstrip() if last else part) for part, last in ends(line)) + r"[ ]*\n")
    return "".join(parts)


def ends(line: str) -> list[tuple[str, bool]]:
    parts = line.split("…")
    return [(part, i == len(parts) - 1) for i, part in enumerate(parts)]


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.stem)
def test_examples_print_what_the_page_says(page, tmp_path):
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "neural-cleanse").symlink_to(command())
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "ORT_DYLIB_PATH")}
    # No folder of an installed engine: the pages show what the built-in one prints.
    environment["PATH"] = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    for words, status, lines in examples(page):
        ended = subprocess.run(
            ["bash", "-c", words], cwd=tmp_path, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        assert ended.returncode == status, f"$ {words}\n{ended.stdout}"
        assert re.fullmatch(pattern(lines), ended.stdout), f"$ {words}\n{ended.stdout}\ndoes not match\n" + "\n".join(lines)


LINKED = [*PAGES, *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))]


def anchors(page: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{target} in {page.name}"
        assert not anchor or anchor in anchors(linked), f"{target} in {page.name}"
        of_the_book = page.parent == ROOT / "docs"
        assert not of_the_book or linked.resolve().is_relative_to(page.parent), f"{target} in {page.name} is not in the book"


def test_every_page_is_in_the_summary_once():
    listed = re.findall(r"\]\((\S+\.md)\)", (ROOT / "docs" / "SUMMARY.md").read_text())
    assert sorted(listed) == sorted(page.name for page in PAGES if page.name not in ("README.md", "SUMMARY.md"))
