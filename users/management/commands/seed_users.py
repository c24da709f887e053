from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand, CommandError

from users.management.progress import progress
from users.models import User
from users.seeding import batches

BATCH_SIZE = 1_000
INTERRUPTED = 130  # exit code of a program ended by Ctrl-C


class Command(BaseCommand):
    help = "Add generated users as test data."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("count", metavar="N", help="how many users to add")
        parser.add_argument(
            "--password",
            help="password of all of them; without it, they have no usable password",
        )
        parser.add_argument(
            "--seed", type=int, help="the same seed and table size give the same users"
        )

    def handle(
        self,
        *,
        count: str | int,
        password: str | None,
        seed: int | None,
        verbosity: int,
        **options: Any,  # noqa: ARG002 - what every command gets
    ) -> None:
        total = self._positive(count)
        if password == "":
            raise CommandError("The password is empty; leave --password out to have none.")
        hashed = None if password is None else make_password(password)  # once: it is slow
        made, state = 0, (0, [])
        try:
            with progress(self.stdout, "Adding users", total, silent=verbosity < 1) as advance:
                for batch in batches(total, BATCH_SIZE, seed=seed, password=hashed):
                    state = (made, batch)
                    User.objects.bulk_create(batch)
                    made += len(batch)
                    advance(len(batch))
        except KeyboardInterrupt:
            message = f"Interrupted: {self._made(*state):,} of {total:,} users were added."
            raise CommandError(message, returncode=INTERRUPTED) from None
        if verbosity >= 1:
            self.stdout.write(self.style.SUCCESS(f"Added {made:,} users."))

    def _positive(self, count: str | int) -> int:
        try:
            number = int(count)
        except ValueError:
            number = 0
        if number < 1:
            raise CommandError(f"N must be a whole number, 1 or more, not {count!r}.")
        return number

    def _made(self, before: int, batch: list[User]) -> int:
        """Count the stored users. Ctrl-C may have come just before or after the batch's commit."""
        names = [person.username for person in batch]
        return before + User.objects.filter(username__in=names).count()
