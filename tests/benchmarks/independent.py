"""The gain, measured by 40 lines that share nothing with the benchmark but the idea.

`python -m tests.benchmarks.independent postgres://user:password@host:port/scratch`
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter

from django.conf import settings
from django.db import connections
from environ import Env

THREADS, STOCK, POOL = 8, "django.db.backends.postgresql", {"max_size": 4}
CONTENDERS = {
    "stock": (STOCK, {}),
    "native pool": (STOCK, {"pool": {**POOL, "min_size": 1}}),
    "pooling": ("pooling.backends.postgresql", {"pool": POOL}),
}


def turn(alias: str, seconds: float) -> float:
    """Let all threads query and end their requests; return operations per second."""
    end = perf_counter() + seconds

    def work(thread: int) -> int:
        count = 0
        while perf_counter() < end:
            with connections[alias].cursor() as cursor:
                cursor.execute("UPDATE independent SET n = n + 1 WHERE id = %s", [thread])
            connections[alias].close_if_unusable_or_obsolete()
            count += 1
        connections[alias].close()
        return count

    with ThreadPoolExecutor(THREADS) as executor:
        return sum(executor.map(work, range(THREADS))) / seconds


def main(url: str, seconds: float = 2.0, rounds: int = 7) -> dict[str, float]:
    """Print how many times as fast as stock Django each contender is, the median of all rounds."""
    for name, (engine, options) in CONTENDERS.items():
        entry = {**Env.db_url_config(url), "ENGINE": engine, "OPTIONS": options}
        connections.settings[name] = {**connections.settings["default"], **entry}
    with connections["stock"].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS independent")
        cursor.execute("CREATE TABLE independent AS SELECT generate_series(0, 7) AS id, 0 AS n")
    found = [{name: turn(name, seconds) for name in CONTENDERS} for _ in range(rounds)]
    ratios = {name: median(each[name] / each["stock"] for each in found) for name in CONTENDERS}
    sys.stdout.writelines(f"{name}: {ratio:.2f} times stock\n" for name, ratio in ratios.items())
    return ratios


if __name__ == "__main__":
    settings.configure(DATABASES={"default": {}})
    main(sys.argv[1])
