# ruff: noqa: T201 - printing is what it is for
"""Compare the stock engines with the pooled ones; see `--help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

from pooling.core.config import SCOPES
from tests.django_suite import suite
from tests.support.servers import DRIVERS, settings_from_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.django_suite.suite import Outcomes

LABELS = (
    *("asgi", "async", "backends", "basic", "db_functions", "db_utils", "dbshell", "delete"),
    *("handlers", "introspection", "migrate_signals", "migrations"),
    *("multiple_database", "queries", "raw_query", "schema", "select_for_update", "servers"),
    *("signals", "test_runner", "test_utils", "timezones", "transaction_hooks", "transactions"),
)
"""What touches connections, transactions, cursors, test databases or threads."""

STOCK, POOLED = "django.db.backends", "pooling.backends"
STOCK_GIS = "django.contrib.gis.db.backends"
GIS_ENGINES = ("postgis", "spatialite")
LONGEST_TRACEBACK = 3000


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    suite.fetch()  # for it to fail, if it does, before a server is started
    if options.fetch:
        return 0
    good = True
    for engine in options.engine:
        storage = ["memory" if options.memory else "files"]
        mysql = [os.environ.get("TEST_MYSQL_DRIVER") or "pymysql"]
        variants = {"sqlite3": storage, "spatialite": storage, "mysql": mysql}.get(
            engine, options.driver
        )
        for variant in variants:
            good &= run_all(engine, variant, options)
    print("no differences" if good else "there are differences")
    return 0 if good else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.django_suite",
        description=(
            "Run Django's own tests on the stock and on the pooled engines. The exit status is 1 "
            "if a test fails, is skipped without a declared reason, or is missing with a pool only."
        ),
    )
    parser.add_argument(
        "labels", nargs="*", help=f"what to run, as for runtests.py; default: {' '.join(LABELS)}"
    )
    engines = ("sqlite3", "postgresql")
    parser.add_argument(
        "--engine",
        action="append",
        choices=(*engines, "mysql", *GIS_ENGINES),
        help="default: " + ", ".join(engines) + "; PostGIS needs --url, SpatiaLite a Python whose "
        "sqlite3 loads extensions, and their tests are those below gis_tests",
    )
    parser.add_argument("--driver", action="append", choices=DRIVERS, help="default: psycopg")
    parser.add_argument(
        "--memory", action="store_true", help="SQLite in memory, where the pool stands aside"
    )
    parser.add_argument(
        "--scope", action="append", choices=SCOPES, help="of the pool; default: request"
    )
    parser.add_argument(
        "--url",
        help="a PostgreSQL server on which to make the databases test_suite_*; default: a private "
        "one, without ICU's collations and extensions, so that some tests fail on both engines",
    )
    parser.add_argument(
        "--fetch", action="store_true", help="only download Django's source, if it is not there"
    )
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--timeout", type=float, default=1800.0, metavar="SECONDS", help="per run; default: 1800"
    )
    options = parser.parse_args(arguments)
    options.engine = options.engine or engines
    options.driver = options.driver or ["psycopg"]
    options.scope = options.scope or ["request"]
    return options


def run_all(engine: str, variant: str, options: argparse.Namespace) -> bool:
    """Run the suite on the stock engine, then on the pooled one; return whether all is well."""
    good = True
    with ExitStack() as stack:
        databases = make_databases(engine, variant, options, stack)
        package = STOCK_GIS if engine in GIS_ENGINES else STOCK
        stock = run_one(with_engine(databases, f"{package}.{engine}"), variant, options)
        for scope in options.scope:
            pooled = with_engine(databases, f"{POOLED}.{engine}", {"scope": scope})
            good &= report(stock, run_one(pooled, variant, options, f"scope={scope}"))
    return good


def run_one(
    databases: dict[str, dict[str, Any]], variant: str, options: argparse.Namespace, *words: str
) -> Outcomes:
    engine = databases[suite.ALIASES[0]]["ENGINE"]
    words = (engine, variant, "Django", django.get_version(), *words)
    print(*words, "...", flush=True)
    outcomes = suite.run(
        databases,
        driver=variant if variant in DRIVERS else "psycopg",
        labels=options.labels or list(LABELS),
        parallel=options.parallel,
        timeout=options.timeout,
        name="-".join(words),
    )
    print(f"  {summary(outcomes)}", flush=True)
    return outcomes


def make_databases(
    engine: str, variant: str, options: argparse.Namespace, stack: ExitStack
) -> dict[str, dict[str, Any]]:
    """Return entries for `DATABASES` without ENGINE; `stack` ends what serves them."""
    if engine in ("postgresql", "postgis") and options.url:
        entry = settings_from_url(options.url, "")
        # Runs with different drivers may use one server at the same time.
        return {alias: {**entry, "NAME": f"suite_{variant}_{alias}"} for alias in suite.ALIASES}
    if engine == "postgresql":
        from pooling.bench.private_postgres import PrivatePostgres

        server = stack.enter_context(PrivatePostgres(max_connections=200))
        return {alias: server.database_settings(name=alias) for alias in suite.ALIASES}
    if engine == "mysql":
        from pooling.bench.private_mariadb import PrivateMariaDB

        maria = stack.enter_context(PrivateMariaDB())
        return {alias: maria.database_settings(name=f"suite_{alias}") for alias in suite.ALIASES}
    if options.memory:
        return {alias: {} for alias in suite.ALIASES}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pooling-django-suite-")))
    return {
        alias: {
            "NAME": str(folder / f"{alias}.sqlite3"),
            "TEST": {"NAME": str(folder / f"test-{alias}.sqlite3")},
        }
        for alias in suite.ALIASES
    }


def with_engine(
    databases: dict[str, dict[str, Any]], engine: str, pool: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    found = {}
    for alias, entry in databases.items():
        options = {**entry.get("OPTIONS", {}), **({"pool": pool} if pool else {})}
        found[alias] = {**entry, "ENGINE": engine, "OPTIONS": options}
    return found


def summary(outcomes: Outcomes) -> str:
    return (
        f"{len(outcomes.seen)} tests, {len(outcomes.failed)} failed, "
        f"{len(outcomes.skipped)} skipped, {outcomes.seconds:.0f} s"
        + (f" ({outcomes.complaint})" if outcomes.complaint else "")
        + f"\n  {outcomes.log}"
    )


def report(stock: Outcomes, pooled: Outcomes) -> bool:
    """Print what is different with a pool; return whether all of it is declared."""
    failing = sorted(pooled.failed.keys() - stock.failed.keys())
    skipping = sorted(pooled.skipped.keys() - stock.skipped.keys())
    undeclared = [test for test in skipping if pooled.skipped[test] not in pooled.declared]
    missing = sorted(stock.seen - pooled.seen)
    show("mended by the pool, or flaky", sorted(stock.failed.keys() & pooled.passed))
    show(
        "skipped with a pool, declared",
        (f"{test}: {pooled.skipped[test]}" for test in skipping if test not in undeclared),
    )
    show("SKIPPED WITH A POOL ONLY", (f"{test}: {pooled.skipped[test]}" for test in undeclared))
    show("MISSING WITH A POOL", missing)
    show(
        "FAILING WITH A POOL ONLY",
        (f"{test}\n{pooled.failed[test][-LONGEST_TRACEBACK:]}" for test in failing),
    )
    complaints = [f"stock: {stock.complaint}"] * bool(stock.complaint)
    complaints += [f"pooled: {pooled.complaint}"] * bool(pooled.complaint)
    show("NOT A COMPLETE RUN", complaints)
    if not stock.passed:
        show("NOTHING TO COMPARE", ["no test passed on the stock engine"])
    return not (failing or undeclared or missing or complaints) and bool(stock.passed)


def show(title: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if lines:
        print(f"  {title} ({len(lines)}):")
        for line in lines:
            print("    " + line.replace("\n", "\n      "))


if __name__ == "__main__":
    # So that a polite end also ends the server, the run and its files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except suite.SuiteError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
