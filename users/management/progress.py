"""Progress of a command: a bar on a terminal, a few lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

try:
    from rich import progress as rich_progress
except ImportError:  # it is optional
    rich_progress = None

LINES = 10


@contextmanager
def progress(
    stdout: TextIO, label: str, total: int, *, silent: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of items done since the last call."""
    if silent:
        yield lambda _done: None
    elif rich_progress and stdout.isatty():
        columns = (
            *rich_progress.Progress.get_default_columns(),
            rich_progress.MofNCompleteColumn(),
        )
        with rich_progress.Progress(*columns) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.advance(task, done)
    else:
        yield _plain_lines(stdout, label, total)


def _plain_lines(stdout: TextIO, label: str, total: int) -> Callable[[int], None]:
    done = shown = 0

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if done == total or (done - shown) * LINES >= total:
            shown = done
            stdout.write(f"{label}: {done:,} of {total:,}")

    return advance
