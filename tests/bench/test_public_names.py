"""The tests use public names of the benchmark only."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_no_test_imports_a_private_name_of_the_benchmark() -> None:
    private = [
        f"{path}: {node.module}.{alias.name}"
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pooling.bench")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert private == []
