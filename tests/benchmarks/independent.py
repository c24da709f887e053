"""The gain, measured by 40 lines that share nothing with the benchmark but the idea.

`python -m tests.benchmarks.independent postgres://user:password@host:port/scratch`
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter

import django
from django.conf import settings
from django.db import connections, models
from environ import Env

if not settings.configured:
    settings.configure(DATABASES={"default": {}}, INSTALLED_APPS=[])
    django.setup()

THREADS, STOCK, POOL = 8, "django.db.backends.postgresql", {"max_size": 4}
CONTENDERS = {
    "stock": (STOCK, {}),
    "native pool": (STOCK, {"pool": {**POOL, "min_size": 1}}),
    "pooling": ("pooling.backends.postgresql", {"pool": POOL}),
}


class Item(models.Model):
    """A row to insert, read, update and delete."""

    name = models.CharField(max_length=100, unique=True)

    class Meta:
        app_label = "independent"

    def __str__(self) -> str:
        return self.name


def turn(alias: str, seconds: float) -> float:
    """Let all threads query and end their requests; return operations per second."""
    begin = perf_counter()
    items = Item.objects.using(alias)
    operations = [
        lambda item: item.save(using=alias, force_insert=True),
        lambda item: items.get(pk=item.pk),
        lambda item: item.save(using=alias, force_update=True),
        lambda item: item.delete(using=alias),
    ]

    def work(thread: int) -> float:
        count = 0
        while perf_counter() < begin + seconds:
            item = Item(name=f"{alias} {begin} {thread} {count}")
            for operation in operations:
                operation(item)
                connections[alias].close_if_unusable_or_obsolete()
                count += 1
        rate = count / (perf_counter() - begin)
        connections[alias].close()
        return rate

    with ThreadPoolExecutor(THREADS) as executor:
        return sum(executor.map(work, range(THREADS)))


def main(url: str, seconds: float = 2.0, rounds: int = 7) -> dict[str, float]:
    """Print how many times as fast as stock Django each contender is, the median of all rounds."""
    for name, (engine, options) in CONTENDERS.items():
        entry = {**Env.db_url_config(url), "ENGINE": engine, "OPTIONS": options}
        connections.settings[name] = {**connections.settings["default"], **entry}
    with connections["stock"].schema_editor() as editor:
        editor.execute("DROP TABLE IF EXISTS independent_item")
        editor.create_model(Item)
    found = [{name: turn(name, seconds) for name in CONTENDERS} for _ in range(rounds)]
    ratios = {name: median(each[name] / each["stock"] for each in found) for name in CONTENDERS}
    sys.stdout.writelines(f"{name}: {ratio:.2f} times stock\n" for name, ratio in ratios.items())
    return ratios


if __name__ == "__main__":
    main(sys.argv[1])
