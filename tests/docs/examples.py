"""Code blocks of the documentation, and what runs them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]

RUNNABLE = ("python", "sh")
SHOWN = ("text", "ini", "html")
"""Languages of blocks that only show something: output, diagrams, files of other programs."""

SECONDS = 120.0

FENCE = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<comment>[^\n]*) -->\n(?P=indent))?"
    r"```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its file.
        line: where its code begins.
        language: what follows the fence.
        code: its text, without indentation.
        comment: the HTML comment on the line before, if there is one.
    """

    page: Path
    line: int
    language: str
    code: str
    comment: str

    @property
    def reason(self) -> str:
        """Why it is not run; empty if it has to be."""
        return self.comment.removeprefix("not run: ") if "not run:" in self.comment else ""

    @property
    def file(self) -> str:
        """The file that a block of Python belongs into: its first line says so, as a comment."""
        named = re.match(r"# ([\w./]+\.py)\n", self.code)
        return named.group(1) if named else ""

    @property
    def is_settings(self) -> bool:
        """Whether it does nothing but import, and assign settings."""
        targets = []
        for node in ast.parse(self.code).body:
            if isinstance(node, ast.Assign):
                targets += node.targets
            elif isinstance(node, ast.AugAssign):
                targets.append(node.target)
            elif not isinstance(node, (ast.Import, ast.ImportFrom)):
                return False
        return bool(targets) and all(
            ast.unparse(target).partition("[")[0].isupper() for target in targets
        )

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, from top to bottom."""
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, match.start("code")) + 1,
            match["language"],
            re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE),
            match["comment"] or "",
        )
        for match in FENCE.finditer(text)
    ]


class ScratchProject:
    """A project made by `startproject`, in which the blocks of one page are followed.

    Args:
        folder: where to make it.
        name: of the project.
    """

    def __init__(self, folder: Path, name: str = "shop") -> None:
        self.root = folder / name
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        if not self.root.exists():
            self._run(folder, sys.executable, "-m", "django", "startproject", name)

    @property
    def settings(self) -> Path:
        return self.root / self.name / "settings.py"

    def append(self, file: str, code: str) -> None:
        """Add code at the end of a file of the project's package."""
        path = self.root / self.name / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{path.read_text() if path.exists() else ''}\n\n{code}")

    def python(self, code: str, *options: str) -> str:
        """Run a script with Django set up; warnings are errors."""
        script = self.root / "example.py"
        script.write_text(code)
        setup = (
            "import sys, django; django.setup(); "
            "code = compile(open('example.py').read(), 'example.py', 'exec'); "
            "exec(code, {'__name__': 'example'})"
        )
        return self._run(self.root, sys.executable, "-W", "error", *options, "-c", setup)

    def plain_python(self, code: str) -> str:
        """Run a file that is loaded before Django, such as a server's configuration."""
        return self._run(self.root, sys.executable, "-c", code)

    def shell(self, commands: str, **environment: str) -> str:
        """Run shell commands; the first that fails ends them."""
        return self._run(self.root, "/bin/sh", "-eu", "-c", commands, **environment)

    def environment(self) -> dict[str, str]:
        """Return an environment in which `python` is this one, and the package can be imported."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "DJANGO", "PYTEST_", "VIRTUAL_ENV"))
        }
        search = [str(Path(sys.executable).parent), kept.get("PATH", "")]
        return {
            **kept,
            "PATH": os.pathsep.join(search),
            "PYTHONPATH": os.pathsep.join([str(self.root), str(REPOSITORY)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": f"{self.name}.settings",
        }

    def _run(self, folder: Path, *command: str, **environment: str) -> str:
        result = subprocess.run(
            command,
            cwd=folder,
            env={**self.environment(), **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
        return result.stdout
