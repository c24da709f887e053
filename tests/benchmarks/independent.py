"""The gain, measured by 40 lines that share nothing with the benchmark but the idea.

`python -m tests.benchmarks.independent postgresql://user:password@host:port/scratch`
"""

from __future__ import annotations

import sys
import threading
import time
from statistics import median

from django.conf import settings

from tests.support.servers import settings_from_url

SECONDS, ROUNDS, THREADS, SIZE = 2.0, 7, 8, 4
ENGINES = {
    "stock": ("django.db.backends.postgresql", {}),
    "native": ("django.db.backends.postgresql", {"pool": {"min_size": 1, "max_size": SIZE}}),
    "pooled": ("pooling.backends.postgresql", {"pool": {"max_size": SIZE}}),
}


def turn(alias: str, seconds: float) -> float:
    """Let all threads query and end their requests; return operations per second."""
    from django.db import connections

    done = []

    def work() -> None:
        count = 0
        while time.perf_counter() < end:
            with connections[alias].cursor() as cursor:
                cursor.execute("UPDATE independent SET n = n + 1 WHERE id = %s", [count % 10])
            connections[alias].close_if_unusable_or_obsolete()
            count += 1
        connections[alias].close()
        done.append(count)

    end = time.perf_counter() + seconds
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    return sum(done) / seconds


def main(url: str, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, float]:
    """Print each engine's median ratio to stock Django."""
    from django.db import connections

    for name, (engine, options) in ENGINES.items():
        entry = settings_from_url(url, engine)
        entry["OPTIONS"] = {**entry["OPTIONS"], **options}
        connections.settings[name] = {**connections.settings["default"], **entry}
    with connections["stock"].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS independent")
        cursor.execute(
            "CREATE TABLE independent AS SELECT id, 0 AS n FROM generate_series(0, 19) id"
        )
    found = []
    for number in range(rounds):
        names = [*ENGINES][number % 3 :] + [*ENGINES][: number % 3]
        found.append({name: turn(name, seconds) for name in names})
    ratios = {name: median(each[name] / each["stock"] for each in found) for name in ENGINES}
    for name, ratio in ratios.items():
        sys.stdout.write(f"{name}: {ratio:.2f} times stock\n")
    return ratios


if __name__ == "__main__":
    settings.configure(DATABASES={"default": settings_from_url(sys.argv[1], ENGINES["stock"][0])})
    main(sys.argv[1])
