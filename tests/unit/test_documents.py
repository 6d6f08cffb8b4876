"""The documents name what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("schemas", "runtime", "producers", "consumers", "mcp_gateway", "shiplog", "tests", "bench", "docs")
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_and_files_that_a_document_names_exist(document: Path) -> None:
    """Tests by name, files and folders by path, other documents by link."""
    text = document.read_text()
    assert sorted(set(re.findall(r"`(test_\w+)`", text)) - TESTS) == []
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w/.]+)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)]
    assert [link for link in links if link and not (document.parent / link).exists()] == []
