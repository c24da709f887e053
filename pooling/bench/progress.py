"""The progress of a run, on a terminal or in a log."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pooling.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from .runner import Step


def describe(step: Step) -> str:
    """Return what is run, without the contender and the round."""
    return f"{step.database}: {step.workload}, {plural(step.threads, 'thread')}"


def new_bar(stream: TextIO) -> Any:
    """Return a progress bar that no thread refreshes; None without a terminal or without rich."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft
    except ImportError:
        return None
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    return Progress(*columns, console=Console(file=stream), auto_refresh=False, transient=True)


@contextmanager
def report_progress(stream: TextIO, steps: int) -> Iterator[Callable[[Step], None]]:
    """Show each trial on a stream: on a terminal with rich a bar, else a line for each cell.

    Nothing is drawn while the clock runs.
    """
    if (bar := new_bar(stream)) is not None:
        with bar:
            task, begun = bar.add_task("getting ready", total=steps), itertools.count()
            yield lambda step: bar.update(
                task, completed=next(begun), description=describe(step), refresh=True
            )
        return
    shown = set[str]()

    def write(step: Step) -> None:
        if (text := describe(step)) not in shown:
            shown.add(text)
            stream.write(f"{text}\n")
            stream.flush()

    yield write
