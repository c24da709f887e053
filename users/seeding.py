"""Generate users in batches."""

import random
import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from django.utils import timezone

from users.models import User
from users.names import FIRST_NAMES, LAST_NAMES

# Reserved for examples (RFC 2606): mail to them is never delivered.
DOMAINS = ("example.com", "example.net", "example.org")
JOINED_WITHIN = timedelta(days=3 * 365)
INACTIVE_SHARE = 0.05


def batches(
    count: int, size: int, *, seed: int | None, password: str | None
) -> Iterator[list[User]]:
    """Yield `count` unsaved users in lists of at most `size`, none of which is stored already.

    The same seed gives the same users while the number of stored users is the same; otherwise it
    gives others, so that a second run does not first generate the users of the first one.
    `password` is a hash; None means an unusable password.
    """
    rng = random.Random(f"{seed} {User.objects.count()}" if seed is not None else None)
    candidates = people(rng, timezone.now())
    while count > 0:
        batch = _unused(candidates, min(size, count))
        for person in batch:
            person.password = password or ""
            if password is None:
                person.set_unusable_password()
        yield batch
        count -= len(batch)


def people(rng: random.Random, now: datetime) -> Iterator[User]:
    """Yield invented people without end; there are some hundred million different usernames."""
    while True:
        first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
        a, b = _ascii(first), _ascii(last)
        name = rng.choice((f"{a}.{b}", f"{a[0]}{b}", f"{b}.{a}", f"{a}_{b}"))
        username = f"{name}{rng.randrange(10, 10_000)}"
        yield User(
            username=username,
            first_name=first,
            last_name=last,
            email=f"{username}@{rng.choice(DOMAINS)}",
            is_active=rng.random() >= INACTIVE_SHARE,
            date_joined=now - rng.random() * JOINED_WITHIN,
        )


def _unused(candidates: Iterator[User], size: int) -> list[User]:
    """Draw `size` users with usernames and addresses unique in the batch and in the table."""
    batch: dict[str, User] = {}
    while len(batch) < size:
        for person in islice(candidates, size - len(batch)):
            batch.setdefault(person.username, person)
        by_email = {person.email: username for username, person in batch.items()}
        taken = set(User.objects.filter(username__in=batch).values_list("username", flat=True))
        emails = User.objects.filter(email__in=by_email).values_list("email", flat=True)
        for username in taken | {by_email[email] for email in emails}:
            del batch[username]
    return list(batch.values())


def _ascii(name: str) -> str:
    """Spell a name the way people do in their addresses: "Sørensen" is sorensen."""
    name = name.lower().replace("ø", "o")
    return re.sub("[^a-z]", "", unicodedata.normalize("NFKD", name))
