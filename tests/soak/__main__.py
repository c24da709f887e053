# ruff: noqa: T201 - printing is what it is for
"""Run pools under stress for a while; the exit status is 1 if any problem was found.

Parameters are read from the environment: `SOAK_MINUTES` (10), `SOAK_SEED` (random, printed),
`SOAK_ON` (some of `postgresql`, `mysql` and `sqlite`, one after the other; by default all of them,
without `mysql` where no MariaDB is installed),
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

PARTS = {"postgresql": 6, "mysql": 3, "sqlite": 1}
"""How the time is divided: SQLite has fewer ways to fail, PostgreSQL replicas and a budget."""


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from tests.soak.mysql import MysqlStress
    from tests.soak.postgresql import PostgresStress
    from tests.soak.sqlite import SqliteStress
    from tests.support.mariadb import missing

    minutes = float(os.environ.get("SOAK_MINUTES") or "10")
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(1_000_000))
    left_out = missing()
    usual = [kind for kind in PARTS if kind != "mysql" or not left_out]
    kinds = (os.environ.get("SOAK_ON") or ",".join(usual)).split(",")
    if unknown := set(kinds) - PARTS.keys():
        sys.exit(f"SOAK_ON: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    if left_out:
        print(f"Without MariaDB: {left_out}", flush=True)
    print(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g} SOAK_ON={','.join(kinds)}", flush=True)
    logging.getLogger("pooling").setLevel(logging.CRITICAL)  # it would log every fault
    started = time.monotonic()

    def print_line(line: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {line}", flush=True)

    found, parts = 0, sum(PARTS[each] for each in kinds)
    with tempfile.TemporaryDirectory(prefix="pooling-soak-") as folder:
        for kind in kinds:
            stress: Stress
            if kind == "sqlite":
                stress = SqliteStress(seed, print_line, Path(folder))
            elif kind == "mysql":
                stress = MysqlStress(seed, print_line)
            else:
                stress = PostgresStress(seed, print_line)
            with stress:
                problems = stress.run(minutes * 60 * PARTS[kind] / parts)
                print(f"{kind}:", *stress.report(), sep="\n", flush=True)
            for problem in problems:
                print(f"PROBLEM: {problem}", flush=True)
            found += len(problems)
    print(f"{found} problems" if found else "no problems", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
