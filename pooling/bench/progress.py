"""The progress of a run, on a terminal or in a log."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from .runner import Step


def describe(step: Step) -> str:
    threads = "1 thread" if step.threads == 1 else f"{step.threads} threads"
    return f"{step.database}: {step.workload}, {threads}"


@contextmanager
def report_progress(stream: TextIO, steps: int) -> Iterator[Callable[[Step], None]]:
    """Show each trial on a stream: as a bar with the time left, or as a line where something new
    begins.

    The bar takes a terminal and rich. Nothing is drawn while the clock runs: no thread refreshes
    it.
    """
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeRemainingColumn as TimeLeft
        except ImportError:  # a bar is a nicety
            pass
        else:
            bar = Progress(
                TextColumn("{task.description:<44}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeLeft(),
                console=Console(file=stream),
                auto_refresh=False,
                transient=True,
            )
            with bar:
                task = bar.add_task("getting ready", total=steps)
                begun = 0

                def draw(step: Step) -> None:
                    nonlocal begun
                    bar.update(task, completed=begun, description=describe(step), refresh=True)
                    begun += 1

                yield draw
            return

    latest = ""

    def write(step: Step) -> None:
        nonlocal latest
        if describe(step) != latest:
            latest = describe(step)
            stream.write(f"{latest}\n")
            stream.flush()

    yield write
