"""Django's own test suite, on the stock engines and on the pooled ones.

Run it with `python -m tests.django_suite`.

Whoever changes one line of settings, `ENGINE`, expects that nothing else changes. Django's tests of
its database layer know better than anybody what "nothing" is, so they are run twice, and what fails
or is skipped with a pool only is a difference to be explained or mended. All of that takes minutes;
`test_django_suite.py` runs a part of it.
"""
