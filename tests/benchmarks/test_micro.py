"""The micro suite: `python -m tests.benchmarks micro`, and what it is made of."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pooling.bench.databases import SetupError
from pooling.bench.statistics import Ratio
from tests.benchmarks.__main__ import main, make_budget
from tests.benchmarks.micro import runner
from tests.benchmarks.micro.benchmarks import BENCHMARKS
from tests.benchmarks.micro.definitions import MicroBenchmark, Subject, Target
from tests.benchmarks.micro.results import (
    MicroDocument,
    MicroRow,
    is_met,
    make_document,
    row_of,
)
from tests.benchmarks.micro.runner import QUICK, Budget, Found, options_of, run
from tests.benchmarks.micro.worker import ProbeProcess

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.plugin import DjangoDbBlocker

    from pooling.bench.databases import PostgresProvider, SqliteProvider

PROBES = "tests.benchmarks.fake_probes"
SHORTEST = Budget(rounds=1, seconds=0.002, quick=True)


# ---- the whole suite -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document(django_db_blocker: DjangoDbBlocker) -> MicroDocument:
    """The shortest run of everything."""
    with django_db_blocker.unblock():
        return runner.measure(tuple(BENCHMARKS.values()), SHORTEST)


@pytest.mark.slow
def test_every_row_of_the_suite_is_measured(document: MicroDocument) -> None:
    assert document["left_out"] == []
    assert [row["note"] for row in document["rows"] if row["note"]] == []
    assert {row["benchmark"] for row in document["rows"]} == BENCHMARKS.keys()
    for row in document["rows"]:
        assert row.keys() == MicroRow.__annotations__.keys()
        assert row["value"] is not None
        assert row["value"] >= 0
        assert row["low"] <= row["value"] <= row["high"]
        assert row["target"] is not None or row["met"] is None
        assert row["rounds"] == 1
        if row["benchmark"].startswith(("core-", "django-")) and row["against"]:
            assert row["processor"] > 0


@pytest.mark.slow
def test_the_document_is_data(document: MicroDocument) -> None:
    assert json.loads(json.dumps(document)) == document
    assert document.keys() == MicroDocument.__annotations__.keys()
    assert document["suite"] == "micro"
    assert document["settings"] == {"rounds": 1, "turn_seconds": 0.002, "seed": 1}
    assert {"PostgreSQL", "SQLite"} == document["environment"]["servers"].keys()
    rounds = document["measured"]["core-1"]
    names = {subject.name for subject in BENCHMARKS["core-1"].subjects}
    assert [each.keys() for each in rounds] == [names]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "metric", "known"),
    [
        ("spike", "connects", range(1, 51)),
        ("idle-threads", "threads", range(41)),
        ("memory", "idle", range(1, 10_000)),
        ("memory", "waiter", range(1, 10_000)),
    ],
)
def test_what_is_counted_is_plausible(
    document: MicroDocument, benchmark: str, metric: str, known: range
) -> None:
    for measured in document["measured"][benchmark]:
        for figures in measured.values():
            assert round(figures[metric]) in known


@pytest.mark.slow
def test_no_pool_exceeds_the_ceiling(document: MicroDocument) -> None:
    for measured in document["measured"]["contention"]:
        for figures in measured.values():
            assert figures["hold"] >= 0.001
            assert 0 < figures["of measured"] <= 1.01  # holds do not include taking turns
            assert 0 < figures["jain"] <= 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no such call")
@pytest.mark.parametrize(
    "subject", BENCHMARKS["django-select"].subjects[::2], ids=lambda subject: subject.name
)
def test_a_client_with_a_query_shares_a_core_with_its_session(
    subject: Subject, postgres_provider: PostgresProvider
) -> None:
    with (
        postgres_provider.new_database() as entry,
        ProbeProcess(subject.probe, subject.blocked) as process,
    ):
        postgres_provider.prepare(entry)
        process.start()
        process.ready()
        process.open(options_of(subject, "postgresql", entry))
        process.trial(20)
        rows = postgres_provider.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
            f"AND datname = '{entry['NAME']}'"
        )
        (session,) = (pid for (pid,) in rows)
        assert process.pid is not None
        assert os.sched_getaffinity(process.pid) == os.sched_getaffinity(session)
        assert len(os.sched_getaffinity(session)) == 1
        process.close()


# ---- the command -----------------------------------------------------------------------------


def test_the_command_shows_targets_and_writes_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("a.json", "a.md")]
    options = [f"--json={files[0]}", f"--markdown={files[1]}"]

    assert main(["micro", "--quick", "--rounds=1", "--workload=core-1,memory", *options]) == 0

    out, err = capsys.readouterr()
    assert "core: acquire + release, 1 thread\n  pooling / psycopg_pool" in out
    assert "per waiter" in out
    assert "3 targets: " in out
    assert err.splitlines() == ["core: acquire + release, 1 thread", "memory"]
    for file in files:
        assert "SQLAlchemy QueuePool" in file.read_text()
    assert json.loads(files[0].read_text())["settings"]["rounds"] == 1


def test_an_unknown_benchmark_is_one_clear_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["micro", "--workload=core"]) == 1
    assert "no workload 'core'; did you mean 'core-1'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nano"], "invalid choice"),
        (["micro", "--contender=stock"], "unrecognized arguments: --contender=stock"),
        (["micro", "--rounds=0"], "argument --rounds: '0': a whole number from 1"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_knobs_change_the_amount() -> None:
    assert make_budget(quick=False, rounds=None, duration=None, seed=None) == Budget()
    changed = make_budget(quick=True, rounds=7, duration=0.2, seed=0)
    assert changed == Budget(rounds=7, seconds=0.2, seed=0, quick=True)


def test_without_a_server_the_other_benchmarks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(vendor: str) -> Any:
        raise SetupError("no server here")

    monkeypatch.setattr(runner, "private_provider", refuse)
    found = runner.measure((BENCHMARKS["memory"], BENCHMARKS["django-select"]), QUICK)

    notes = {row["benchmark"]: row["note"] for row in found["rows"]}
    assert notes["memory"] is None
    assert "no server here" in (notes["django-select"] or "")
    assert len(found["left_out"]) == len(BENCHMARKS["django-select"].subjects)


# ---- one benchmark ---------------------------------------------------------------------------


def subject(name: str, probe: str = "Steady", **more: Any) -> Subject:
    return Subject(name=name, probe=f"{PROBES}:{probe}", **more)


def benchmark(*subjects: Subject, **more: Any) -> MicroBenchmark:
    targets = (Target(subject="a", against="b", target=0.5),)
    return MicroBenchmark(
        name="test", title="A test", subjects=subjects, targets=targets, **{"number": 3, **more}
    )


def test_a_row_is_the_median_of_the_rounds_ratios() -> None:
    found = run(
        benchmark(subject("a", options={"figure": 1.0}), subject("b", options={"figure": 4.0})),
        QUICK,
    )

    row = row_of(found, found.benchmark.targets[0])

    assert (row["ours"], row["theirs"], row["value"], row["met"]) == (1.0, 4.0, 0.25, True)
    assert (row["low"], row["high"], row["rounds"]) == (0.25, 0.25, 3)
    assert all(figures["number"] == 3 for each in found.rounds for figures in each.values())


def test_the_ratio_of_processor_time_stands_beside_it() -> None:
    rounds = [
        {"a": {"seconds": 9.0, "processor": each}, "b": {"seconds": 9.0, "processor": 4.0}}
        for each in (1.0, 2.0, 40.0)
    ]
    found = Found(benchmark(), rounds=rounds)

    assert row_of(found, found.benchmark.targets[0])["processor"] == 0.5
    assert row_of(found, Target(subject="a", against="b", metric="processor"))["processor"] is None
    assert row_of(found, Target(subject="a"))["processor"] is None


def test_a_target_is_missed_from_either_side() -> None:
    found = Found(benchmark(), rounds=[{"a": {"seconds": 3.0}, "b": {"seconds": 4.0}}])
    most = Target(subject="a", against="b", target=0.5)
    least = Target(subject="a", against="b", target=0.9, at_least=True)

    assert [row_of(found, target_)["met"] for target_ in (most, least)] == [False, False]


@pytest.mark.parametrize(
    ("low", "high", "most", "least"),
    [
        (0.8, 0.9, True, False),
        (1.1, 1.2, False, True),
        (0.9, 1.1, None, None),
        (0.9, 1.0, True, False),
        (1.0, 1.1, False, True),
        (1.0, 1.0, True, True),
    ],
)
def test_a_target_within_the_interval_is_undecided(
    low: float, high: float, most: bool | None, least: bool | None
) -> None:
    found = Ratio(1.0, low, high)

    assert is_met(found, 1.0, at_least=False) is most
    assert is_met(found, 1.0, at_least=True) is least


def test_a_figure_by_itself_is_no_ratio() -> None:
    found = Found(benchmark(), rounds=[{"a": {"bytes": each}} for each in (1.0, 3.0, 2.0)])
    row = row_of(found, Target(subject="a", metric="bytes", unit="bytes", target=3))

    assert (row["ours"], row["theirs"], row["value"], row["met"]) == (2.0, None, 2.0, True)


def test_only_rounds_that_both_subjects_have_count() -> None:
    one, both = {"a": {"seconds": 1.0}}, {"a": {"seconds": 1.0}, "b": {"seconds": 2.0}}
    found = Found(benchmark(), rounds=[one, both, both, one])
    row = row_of(found, found.benchmark.targets[0]) if found.benchmark.targets else None

    assert row is not None
    assert (row["rounds"], row["value"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ("Failing", "ValueError: no more"),
        ("Dying", "its process has ended (3)"),
        ("Picky", "ValueError: not here"),
        ("Missing", "Missing"),
    ],
)
def test_a_subject_that_fails_does_not_stop_the_others(probe: str, problem: str) -> None:
    found = run(benchmark(subject("a"), subject("b", probe)), QUICK)

    assert list(found.problems) == ["b"]
    assert problem in found.problems["b"]
    assert [each["a"]["seconds"] for each in found.rounds] == [1.0] * 3
    row = row_of(found, found.benchmark.targets[0])
    assert row["value"] is None
    assert row["met"] is None
    assert problem in (row["note"] or "")


REMEDY = "pip install 'django-pooling[bench]'"


def test_a_subject_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    found = run(benchmark(subject("a"), subject("b", needs=("sqlalchemy",))), QUICK)

    assert found.problems == {"b": f"not installed: SQLAlchemy; {REMEDY}"}
    document = make_document([found], QUICK, environment(), 1.0)
    assert document["left_out"] == [
        {"benchmark": "test", "subject": "b", "reason": f"not installed: SQLAlchemy; {REMEDY}"}
    ]


def test_the_order_of_turns_is_drawn_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def order(seed: int) -> list[str]:
        turns = []
        original = runner.ProbeProcess.trial

        def trial(self: runner.ProbeProcess, number: int) -> dict[str, float]:
            turns.append(self._arguments[1].rpartition(":")[2])
            return original(self, number)

        with monkeypatch.context() as patch:
            patch.setattr(runner.ProbeProcess, "trial", trial)
            run(
                benchmark(subject("a"), subject("b", "Other")),
                Budget(rounds=12, seconds=0.001, seed=seed),
            )
        return turns

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert {*order(1)} == {"Steady", "Other"}


@pytest.mark.parametrize(("is_fresh", "processes"), [(False, 1), (True, 3)])
def test_each_round_may_have_new_processes(is_fresh: bool, processes: int) -> None:
    found = run(benchmark(subject("a", "Numbered"), subject("b"), is_fresh=is_fresh), QUICK)

    assert len({each["a"]["process"] for each in found.rounds}) == processes
    assert [each["b"]["seconds"] for each in found.rounds] == [1.0] * 3


@pytest.mark.parametrize(
    ("quick", "most", "rounds"), [(False, None, 6), (False, 5, 5), (True, None, 2)]
)
def test_a_benchmark_may_have_more_rounds(quick: bool, most: int | None, rounds: int) -> None:
    amount = Budget(rounds=2, seconds=0.001, quick=quick)

    found = run(benchmark(subject("a"), more_rounds=3, most_rounds=most), amount)

    assert len(found.rounds) == rounds


@pytest.mark.parametrize("probe", ["Failing", "Dying", "Picky"])
def test_a_subject_that_fails_does_not_begin_again(probe: str) -> None:
    found = run(benchmark(subject("a"), subject("b", probe), is_fresh=True), QUICK)

    assert list(found.problems) == ["b"]
    assert [list(each) for each in found.rounds] == [["a"]] * 3


def test_a_turn_takes_about_as_long_as_it_should() -> None:
    amount = Budget(rounds=1, seconds=0.5)

    [measured] = run(benchmark(subject("a", options={"figure": 0.001}), number=None), amount).rounds

    assert measured["a"]["number"] == 500


def test_a_file_with_many_tables_is_made(sqlite_provider: SqliteProvider) -> None:
    from django.db import connections

    with sqlite_provider.new_database() as entry:
        sqlite_provider.prepare(entry)
        runner.make_tables(sqlite_provider, entry, 59)
        with sqlite_provider.setup_alias(entry) as alias:
            assert len(connections[alias].introspection.table_names()) == 60


def environment() -> Any:
    from pooling.bench.environment import describe

    return describe()
