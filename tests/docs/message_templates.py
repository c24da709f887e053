"""Collect the texts that the package raises, logs and reports, from its source."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "pooling"

BENCHMARK = ("bench/", "management/commands/poolbench.py")
"""`poolbench` explains its own errors on the terminal where it runs."""

ALL_TEXTS = (
    *("core/messages.py", "core/report.py", "core/config.py"),
    *("conf.py", "metrics/access.py", "checks/options.py", "checks/server.py", "checks/threads.py"),
    "checks/mysql.py",
    *("fleet/board.py", "fleet/cache_store.py"),
)
"""Modules that build messages from parts: every text of several words counts."""

FORMATTERS = {"_shown", "_named"}
"""Functions that format a value inside a message."""
NO_MESSAGES = {"hint", "origin", "SETTING"}
"""Names of variables and parameters whose texts belong to a message that is found anyway."""

LOG_METHODS = {"info", "warning", "error", "exception", "critical"}
FEWEST_WORDS = 2


@dataclass(frozen=True)
class Template:
    """One text with placeholders: its literal parts, and where it is."""

    where: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "…".join(self.parts)

    @property
    def pattern(self) -> re.Pattern[str]:
        """What finds the text, with anything in place of the placeholders."""
        return re.compile(".*?".join(re.escape(_plain(part)) for part in self.parts).strip())


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("`", ""))


def plain(text: str) -> str:
    """Return a heading as it is compared: without markup, on one line."""
    return _plain(text).strip()


def templates() -> list[Template]:
    """Return the texts of all modules, each once."""
    found: dict[tuple[str, ...], Template] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if module.startswith(BENCHMARK):
            continue
        tree = ast.parse(path.read_text())
        for node in _texts(tree, everything=module in ALL_TEXTS):
            parts = _parts(node)
            words = len(re.findall(r"[A-Za-z_]{2,}", " ".join(parts)))
            if words >= FEWEST_WORDS and " " in "…".join(parts).strip():
                where = f"pooling/{module}:{node.lineno}"
                found.setdefault(parts, Template(where, parts))
    return list(found.values())


def _texts(tree: ast.Module, *, everything: bool) -> Iterator[ast.expr]:
    """Find expressions that are the text of an error, a log message or a check."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg in {*NO_MESSAGES, "help", "id"}:
                    skipped |= {id(each) for each in ast.walk(keyword.value)}
            if _is_debug(node):
                skipped |= {id(each) for each in ast.walk(node)}
        elif isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            # A problem and its hint.
            for hint in node.value.elts[1:]:
                skipped |= {id(each) for each in ast.walk(hint)}
        elif (isinstance(node, ast.Assign) and _names(node) & NO_MESSAGES) or (
            isinstance(node, ast.FunctionDef) and node.name in FORMATTERS
        ):
            skipped |= {id(each) for each in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped or id(node) in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(each) for each in node.values}
        if isinstance(node, ast.Call):
            yield from (each for each in _message_of(node) if id(each) not in skipped)
        elif everything and _is_text(node):
            yield node


def _names(node: ast.Assign) -> set[str]:
    return {target.id for target in node.targets if isinstance(target, ast.Name)}


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_debug(call: ast.Call) -> bool:
    return _called(call) == "debug"


def _message_of(call: ast.Call) -> list[ast.expr]:
    """Return the arguments of a call that are the text of an error or a log message."""
    name = _called(call)
    logs = name in LOG_METHODS and isinstance(call.func, ast.Attribute)
    error = name.endswith(("Error", "_error", "Configured", "DoesNotExist")) or name in {
        *("PoolTimeout", "PoolClosed", "TooManyWaiters", "ServerDown"),
    }
    if not (logs or error):
        return []
    return [each for each in call.args[:2] if _is_text(each)]


def _parts(node: ast.expr) -> tuple[str, ...]:
    """Split a text at its placeholders: of an f-string, or of a log message."""
    if isinstance(node, ast.JoinedStr):
        parts = [""]
        for value in node.values:
            if isinstance(value, ast.Constant):
                parts[-1] += str(value.value)
            else:
                parts.append("")
        return tuple(parts)
    assert isinstance(node, ast.Constant)
    return tuple(re.split(r"%(?:\w|\.\d+f)", str(node.value)))
