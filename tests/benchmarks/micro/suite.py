"""A whole run: one benchmark after the other, and all of it in one document."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pooling.bench import environment
from pooling.bench.databases import SetupError
from pooling.bench.places import private_provider

from .results import make_document
from .runner import Found, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pooling.bench.databases import DatabaseProvider

    from .benchmark import MicroBenchmark
    from .results import MicroDocument
    from .runner import Budget


def measure(
    benchmarks: Sequence[MicroBenchmark],
    amount: Budget,
    on_benchmark: Callable[[MicroBenchmark], None] = lambda _contest: None,
) -> MicroDocument:
    """Run benchmarks. A database that cannot be had is reported, and the other benchmarks go on."""
    begin = time.monotonic()
    about = environment.describe()
    providers: dict[str, DatabaseProvider] = {}
    refusals: dict[str, str] = {}
    found = []
    with ExitStack() as stack:
        for benchmark in benchmarks:
            on_benchmark(benchmark)
            vendor = benchmark.provider
            if vendor and vendor not in providers and vendor not in refusals:
                try:
                    provider = stack.enter_context(private_provider(vendor))
                    about["servers"][provider.title] = provider.describe()
                    providers[vendor] = provider
                except SetupError as error:
                    refusals[vendor] = str(error)
            if vendor in refusals:
                reasons = dict.fromkeys((subject.name for subject in benchmark.subjects), refusals[vendor])
                found.append(Found(benchmark, problems=reasons))
            else:
                found.append(run(benchmark, amount, providers.get(vendor)))
    return make_document(found, amount, about, time.monotonic() - begin)
