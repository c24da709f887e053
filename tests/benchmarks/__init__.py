"""Benchmarks for maintainers: what the pool itself costs, what a page gains, and their tables.

`python -m tests.benchmarks micro` and `python -m tests.benchmarks http` measure; `readme` and
`performance`, run as modules, put results into the README and docs/performance.md.
"""
