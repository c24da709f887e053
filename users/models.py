"""User model of the demo project."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.urls import reverse

from users.fields import LowercaseEmailField


class User(AbstractUser):
    """Django's user with a required, unique email address."""

    email = LowercaseEmailField(
        "email address",
        unique=True,
        error_messages={"unique": "A user with that email address already exists."},
    )

    class Meta(AbstractUser.Meta):
        # For the sort orders of the list; username and email already have an index.
        indexes = (
            models.Index(fields=["last_name", "first_name", "id"], name="users_by_name"),
            models.Index(fields=["date_joined", "id"], name="users_by_date_joined"),
        )

    def get_absolute_url(self) -> str:
        return reverse("users:detail", args=[self.pk])

    @property
    def display_name(self) -> str:
        return self.get_full_name() or self.username

    @property
    def initials(self) -> str:
        """Return the initials, one or two letters."""
        names = [name for name in (self.first_name, self.last_name) if name] or [self.username]
        return "".join(name[0] for name in names).upper()
