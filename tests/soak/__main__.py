# ruff: noqa: T201 - printing is what it is for
"""Run pools under stress for a while; the exit status is 1 if any problem was found.

Parameters are read from the environment: `SOAK_MINUTES` (10), `SOAK_SEED` (random, printed),
`SOAK_ON` (`postgresql`, `sqlite`, or both one after the other, which is the default),
`SOAK_SCOPE` (`request` or `transaction`), `SOAK_WITHOUT` (acts and faults to leave out, by the
names that a run prints, `signal_handlers`, and on PostgreSQL `budget` and `replicas`: without a
budget the pool resets sessions as it does by default), `TEST_DRIVER`.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from tests.soak.stress import Stress


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from tests.soak.postgresql import PostgresStress
    from tests.soak.sqlite import SqliteStress

    minutes = float(os.environ.get("SOAK_MINUTES") or "10")
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(1_000_000))
    kinds = (os.environ.get("SOAK_ON") or "postgresql,sqlite").split(",")
    print(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g} SOAK_ON={','.join(kinds)}", flush=True)
    logging.getLogger("pooling").setLevel(logging.CRITICAL)  # it would log every fault
    started = time.monotonic()

    def print_line(line: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {line}", flush=True)

    found = 0
    with tempfile.TemporaryDirectory(prefix="pooling-soak-") as folder:
        for kind in kinds:
            stress: Stress
            if kind == "sqlite":
                stress = SqliteStress(seed, print_line, Path(folder))
            else:
                stress = PostgresStress(seed, print_line)
            # SQLite has fewer ways to fail: a tenth of the time.
            part = 1.0 if len(kinds) == 1 else 0.9 if kind == "postgresql" else 0.1
            with stress:
                problems = stress.run(minutes * 60 * part)
                print(f"{kind}:", *stress.report(), sep="\n", flush=True)
            for problem in problems:
                print(f"PROBLEM: {problem}", flush=True)
            found += len(problems)
    print(f"{found} problems" if found else "no problems", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
