"""The calculation of `manage.py poolsize`."""

from __future__ import annotations

from typing import Any

import pytest

from pooling.sizing import Facts, Measured, measure, recommend
from tests.metrics.samples import measured, pool, process


def load(held: float, *, queued: float = 0.0, processes: int = 1, leases: int = 1000) -> Measured:
    return Measured(
        processes=processes,
        hosts=1,
        seconds=10.0,
        leases=leases,
        held=held,
        queued=queued,
        timeouts=0,
    )


def steps(facts: Facts) -> dict[str, str]:
    return {step.name: step.formula for step in recommend(facts).steps}


def test_littles_law_decides_when_there_is_a_measurement() -> None:
    facts = Facts(max_size=10, cores=16, measured=load(4.0, leases=1000))
    found = recommend(facts)

    assert (found.max_size, found.reason) == (8, "Little's law")  # 4 + 2 x sqrt 4
    assert steps(facts)["Little's law"] == (
        "100.0 leases/s x 40.0 ms held = 4.00 in use + 0.00 queueing = 4.00; by 1 process on 1 "
        "host = 4.00 each; + 2 standard deviations (2 x sqrt 4.00) = 8 per process"
    )


def test_those_who_queue_want_connections_as_well() -> None:
    assert recommend(Facts(max_size=4, measured=load(4.0, queued=5.0))).max_size == 15  # 9 + 2 x 3


def test_the_load_is_divided_among_the_processes_that_were_seen() -> None:
    facts = Facts(max_size=10, processes=4, measured=load(16.0, processes=4))

    assert recommend(facts).max_size == 8


def test_hardly_any_load_needs_one() -> None:
    assert recommend(Facts(max_size=10, measured=load(0.0001))).max_size == 1


def test_without_a_measurement_the_servers_cores_decide() -> None:
    facts = Facts(max_size=10, processes=3, cores=8, spindles=1)
    found = recommend(facts)

    assert (found.max_size, found.reason) == (6, "cores x 2 + spindles")
    assert steps(facts)["cores x 2 + spindles"] == (
        "8 cores x 2 + 1 spindles = 17 that the server can run in parallel; by 3 processes "
        "= 6 per process"
    )


def test_max_connections_is_a_limit() -> None:
    facts = Facts(
        max_size=10, processes=10, processes_source="--processes", max_connections=100, reserved=3,
        measured=load(200.0, processes=10),
    )  # fmt: skip
    found = recommend(facts)

    assert (found.max_size, found.reason) == (9, "max_connections")
    assert steps(facts)["max_connections"] == (
        "(100 - 3 reserved) / 10 processes (--processes) = 9.7 per process at most"
    )
    assert steps(facts)["together"] == "10 processes x 9 = 90 connections at most"


def test_more_processes_than_connections_is_said() -> None:
    facts = Facts(max_size=10, processes=200, max_connections=100, reserved=3)

    assert recommend(facts).max_size == 1
    assert "more processes than connections" in steps(facts)["max_connections"]


def test_the_threads_are_a_limit() -> None:
    found = recommend(Facts(max_size=10, cores=32, threads=4))

    assert (found.max_size, found.reason) == (4, "threads")


def test_behind_a_pgbouncer_the_servers_limit_is_not_ours() -> None:
    facts = Facts(max_size=10, processes=50, max_connections=20, pooler="transaction")

    assert recommend(facts).max_size == 10
    assert "PgBouncer" in steps(facts)["max_connections"]


def test_knowing_nothing_it_says_so_and_changes_nothing() -> None:
    found = recommend(Facts(max_size=7))

    assert found.max_size == 7
    assert "nothing else is known" in found.reason
    assert len(found.unknown) == 4


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (Facts(max_size=1), "run this command while the load runs"),
        (Facts(max_size=1, measured=load(0, leases=0)), "run this command while the load runs"),
        (Facts(max_size=1), "--server-cores"),
        (Facts(max_size=1, cores=2, cores_source="this machine"), "alone (this machine)"),
        (Facts(max_size=1, measured=load(1)), "Whether these 10 s were typical"),
        (Facts(max_size=1, measured=load(1, queued=1)), "How much larger the demand is"),
        (Facts(max_size=1, processes=5, measured=load(1)), "the other 4 processes"),
        (Facts(max_size=1), "psql"),
        (Facts(max_size=1), "two versions in parallel"),
    ],
)
def test_unknown_facts_are_listed(facts: Facts, sentence: str) -> None:
    assert sentence in " ".join(recommend(facts).unknown)


def look(time: float, *pools: Any, pid: int = 1) -> Any:
    return process(*pools, pid=pid, time=time)


def test_a_measurement_is_the_difference_of_two_looks() -> None:
    before = [
        look(100.0, pool(holds=measured(5.0), timeouts=1)),
        look(100.5, pool(), pid=2),
    ]
    after = [
        look(110.0, pool(holds=measured(5.0, 2.0, 3.0), waits=measured(1.0), timeouts=3)),
        look(105.5, pool(holds=measured(1.0)), pid=2),
    ]

    assert measure(before, after) == Measured(
        processes=2, hosts=1, seconds=7.5, leases=3, held=0.5 + 0.2, queued=0.1, timeouts=2
    )


def test_what_was_not_seen_twice_does_not_count() -> None:
    came, went = look(110.0, pool(), pid=3), look(100.0, pool(), pid=4)
    stale = look(100.0, pool(), pid=5)  # did not publish in between
    without = look(110.0, pid=6)
    cleared = [look(100.0, pool(holds=measured(1.0)), pid=7), look(110.0, pool(), pid=7)]

    assert measure([went, stale, look(100.0, pid=6), cleared[0]], [came, stale, without]) is None
    assert measure([cleared[0]], [cleared[1]]) is None
    assert measure([], []) is None
