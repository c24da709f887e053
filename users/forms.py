"""Forms to create and edit users."""

from typing import Any, ClassVar

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm, PasswordChangeForm, UsernameField

from users.models import User

PRIVILEGES = ("is_staff", "is_superuser")
NOT_FOR_ONESELF = ("is_active", *PRIVILEGES)


HELP_TEXTS = {
    "username": "Letters, digits and @ . + - _ only.",
    "is_active": "May log in. Prefer this to deleting the account.",
    "is_staff": "May use the admin site.",
    "is_superuser": "Has all permissions.",
}


class AllPasswordErrors:
    """A form for a new password that tells all errors at once, also if the two differ."""

    def check_if_different(self, user: User, first: str, second: str) -> None:
        """Validate the new password, which Django does not do if the fields differ."""
        if self.cleaned_data.get(first) and second not in self.cleaned_data:
            self.validate_password_for_user(user, first)


class AccountForm(forms.ModelForm):
    """Base of the forms; `actor` is the user who submits them."""

    def __init__(self, *args: Any, actor: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.fields.keys() & HELP_TEXTS:
            self.fields[name].help_text = HELP_TEXTS[name]
        self._restrict_privileges(actor)
        for name in ("first_name", "last_name", "email"):
            self.fields[name].widget.attrs["autocomplete"] = "off"  # not the data of the actor
        username = self.fields["username"]
        username.widget.attrs |= {"autocomplete": "off", "spellcheck": "false", "autofocus": False}

    def _restrict_privileges(self, actor: User) -> None:
        """Let only superusers grant privileges, and prevent users from locking themselves out.

        Missing and disabled fields are not read from the request.
        """
        if not actor.is_superuser:
            for name in PRIVILEGES:
                self.fields.pop(name, None)
        if actor == self.instance:
            for name in self.fields.keys() & NOT_FOR_ONESELF:
                self.fields[name].disabled = True
                self.fields[name].help_text = "You cannot change this for yourself."

    def clean_username(self) -> str:
        """Reject a username that differs from another one only in case."""
        username = self.cleaned_data["username"]
        others = User.objects.exclude(pk=self.instance.pk)
        if others.filter(username__iexact=username).exists():
            raise self.instance.unique_error_message(User, ("username",))
        return username


class UserCreateForm(AllPasswordErrors, AccountForm, BaseUserCreationForm):
    field_order = ("username", "first_name", "last_name", "email", "password1", "password2")

    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email", *PRIVILEGES)
        field_classes: ClassVar = {"username": UsernameField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password2"].label = "Password, again"
        self.fields["password2"].help_text = ""

    def _post_clean(self) -> None:
        super()._post_clean()
        self.check_if_different(self.instance, "password1", "password2")


class UserEditForm(AccountForm):
    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email", "is_active", *PRIVILEGES)
        field_classes: ClassVar = {"username": UsernameField}


class OwnPasswordForm(AllPasswordErrors, PasswordChangeForm):
    """Change one's own password, knowing the old one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password2"].label = "New password, again"
        self.fields["new_password2"].help_text = ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        self.check_if_different(self.user, "new_password1", "new_password2")
        return cleaned
