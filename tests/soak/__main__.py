# ruff: noqa: T201 - printing is what it is for
"""Use pools in bad weather for a while; the exit code says whether anything was wrong.

The environment decides: `SOAK_MINUTES` (10), `SOAK_SEED` (random, printed), `SOAK_ON`
(`postgresql`, `sqlite`, or both one after the other, which is the default), `TEST_DRIVER`.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import django


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from tests.soak.storm import PostgresStorm, SqliteStorm, Storm

    minutes = float(os.environ.get("SOAK_MINUTES") or "10")
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(1_000_000))
    kinds = (os.environ.get("SOAK_ON") or "postgresql,sqlite").split(",")
    print(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g} SOAK_ON={','.join(kinds)}", flush=True)
    logging.getLogger("pooling").setLevel(logging.CRITICAL)  # it would tell of every fault
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {line}", flush=True)

    wrong = 0
    with tempfile.TemporaryDirectory(prefix="pooling-soak-") as folder:
        for kind in kinds:
            storm: Storm
            if kind == "sqlite":
                storm = SqliteStorm(seed, say, Path(folder))
            else:
                storm = PostgresStorm(seed, say)
            # SQLite has fewer ways to go wrong: a tenth of the time.
            part = 1.0 if len(kinds) == 1 else 0.9 if kind == "postgresql" else 0.1
            with storm:
                faults = storm.run(minutes * 60 * part)
                print(f"{kind}:", *storm.report(), sep="\n", flush=True)
            for fault in faults:
                print(f"WRONG: {fault}", flush=True)
            wrong += len(faults)
    print(f"{wrong} wrong" if wrong else "all is well", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
