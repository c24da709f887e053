import secrets
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from users.models import User

USERNAME = "demo"
EMAIL = "demo@example.com"


class Command(BaseCommand):
    help = f"Add the superuser {USERNAME!r} with a random password, and show the password once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--url",
            default="http://127.0.0.1:8000/",
            help="the site's address (default: %(default)s)",
        )

    def handle(self, *, url: str, **options: Any) -> None:  # noqa: ARG002 - what every command gets
        if User.objects.filter(username=USERNAME).exists():
            self.stdout.write(
                f"The user {USERNAME!r} exists already; its password was shown once.\n"
                f"Set another one: python manage.py changepassword {USERNAME}\n"
                f"Log in at {url}"
            )
            return
        if User.objects.filter(email=EMAIL).exists():
            raise CommandError(f"Another user has the address {EMAIL}; change it, then try again.")
        password = secrets.token_urlsafe(12)
        User.objects.create_superuser(
            USERNAME, EMAIL, password, first_name="Demo", last_name="Account"
        )
        self.stdout.write(
            f"Username: {USERNAME}\n"
            f"Password: {password}\n"
            f"Log in at {url}\n"
            "The password is not shown again."
        )
