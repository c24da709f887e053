"""Forms to create and edit users."""

from typing import Any, ClassVar

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm, UsernameField

from users.models import User

POWERS = ("is_staff", "is_superuser")
NOT_ON_ONESELF = ("is_active", *POWERS)


HELP_TEXTS = {
    "username": "Letters, digits and @ . + - _ only.",
    "is_active": "May log in. Taking this away is gentler than deleting the account.",
    "is_staff": "May enter the admin.",
    "is_superuser": "May do everything, without being given any permission.",
}


class AccountForm(forms.ModelForm):
    """What creating and editing have in common. `actor` is the person at the keyboard."""

    def __init__(self, *args: Any, actor: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.fields.keys() & HELP_TEXTS:
            self.fields[name].help_text = HELP_TEXTS[name]
        self._restrict_powers(actor)
        for name in ("first_name", "last_name", "email"):
            self.fields[name].widget.attrs["autocomplete"] = "off"  # it is about somebody else
        username = self.fields["username"]
        username.widget.attrs |= {"autocomplete": "off", "spellcheck": "false", "autofocus": False}

    def _restrict_powers(self, actor: User) -> None:
        """Let only superusers hand out powers, and nobody disarm or lock out themselves.

        Fields that are missing or disabled are not read from the request, whatever it contains.
        """
        if not actor.is_superuser:
            for name in POWERS:
                self.fields.pop(name, None)
        if actor == self.instance:
            for name in self.fields.keys() & NOT_ON_ONESELF:
                self.fields[name].disabled = True
                self.fields[name].help_text = "You cannot change this for yourself."

    def clean_username(self) -> str:
        """Refuse usernames that differ from another one only in upper and lower case."""
        username = self.cleaned_data["username"]
        others = User.objects.exclude(pk=self.instance.pk)
        if others.filter(username__iexact=username).exists():
            raise self.instance.unique_error_message(User, ("username",))
        return username


class UserCreateForm(AccountForm, BaseUserCreationForm):
    field_order = ("username", "first_name", "last_name", "email", "password1", "password2")

    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email", *POWERS)
        field_classes: ClassVar = {"username": UsernameField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password2"].label = "Password, again"
        self.fields["password2"].help_text = ""


class UserEditForm(AccountForm):
    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email", "is_active", *POWERS)
        field_classes: ClassVar = {"username": UsernameField}
