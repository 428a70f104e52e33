"""The Python blocks of the README and the documentation run, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
    if page.is_file()
]


def blocks():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, found in enumerate(re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)):
            line = text.count("\n", 0, found.start()) + 1
            yield pytest.param(page, line, found[1], id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.thread_unsafe
@pytest.mark.parametrize(("page", "line", "code"), list(blocks()))
def test_python_blocks_run(page, line, code):
    if "import torch" in code:
        pytest.importorskip("torch")
    exec(compile("\n" * line + code, str(page), "exec"), {"__name__": "example"})


def anchors(text):
    """As they are made of headings: lower case, spaces to hyphens, punctuation dropped."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


def test_the_readme_has_examples():
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("run away from the source tree")
    assert readme.read_text(encoding="utf-8").count("```python") >= 2
