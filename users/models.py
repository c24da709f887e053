"""The project's user model."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.urls import reverse

from users.fields import LowercaseEmailField


class User(AbstractUser):
    """Django's user, with an address that is required and unique."""

    email = LowercaseEmailField(
        "email address",
        unique=True,
        error_messages={"unique": "A user with that email address already exists."},
    )

    class Meta(AbstractUser.Meta):
        # For the list's sort orders, tie-breaker included; username and email have theirs already.
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
        """Return one or two letters to recognise somebody by."""
        names = [name for name in (self.first_name, self.last_name) if name] or [self.username]
        return "".join(name[0] for name in names).upper()
