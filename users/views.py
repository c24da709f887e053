"""Pages of the app; each requires a permission."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin, PermissionRequiredMixin
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.contrib.messages.views import SuccessMessageMixin
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.urls import reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import CreateView, DeleteView, DetailView, ListView, UpdateView

from users.forms import OwnPasswordForm, UserCreateForm, UserEditForm
from users.listing import STATUSES, Sort, clean_search, list_query, search
from users.models import User
from users.policy import can_manage


@method_decorator(never_cache, name="dispatch")  # "Back" shows nothing after logging out
class UserPage(PermissionRequiredMixin):
    """A page that requires a permission.

    The displayed user is called `person`, the logged-in one `user`.
    """

    model = User
    context_object_name = "person"
    http_method_names = ("get", "head", "options")
    login_url = reverse_lazy("users:login")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(list_query=list_query(self.request.GET), **kwargs)


class FormPage(SuccessMessageMixin):
    """A page with a form that changes something."""

    http_method_names = ("get", "head", "options", "post")

    def may_view(self) -> bool:
        return self.request.user.has_perm("users.view_user")


class SavesUser(FormPage):
    """A form page whose form saves a user."""

    template_name = "users/form.html"

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"actor": self.request.user}

    def form_valid(self, form: BaseForm) -> HttpResponse:
        try:
            with transaction.atomic():
                return super().form_valid(form)
        except IntegrityError:  # another request saved the same name after the check
            form.add_error(None, "This username or email address has just been taken.")
            return self.form_invalid(form)

    def get_success_url(self) -> str:
        """Return the user's page, or the form if the actor may not view users."""
        if not self.may_view():
            return self.request.path
        return self.object.get_absolute_url() + list_query(self.request.GET)


class ExistingUser:
    """A form page for a user that the actor must be allowed to manage."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        with transaction.atomic():  # locks the row from the check until the write
            return super().post(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[User]:
        people = super().get_queryset()
        return people.select_for_update() if self.request.method == "POST" else people

    def get_object(self, queryset: QuerySet[User] | None = None) -> User:
        person = super().get_object(queryset)
        if not can_manage(self.request.user, person):
            raise PermissionDenied(f"{person.display_name} has rights that you do not have.")
        self.name_before = person.display_name
        return person

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        # An invalid form has changed the object, but not the database.
        return super().get_context_data(name=self.name_before, **kwargs)


class UserList(UserPage, ListView):
    permission_required = "users.view_user"
    permission_denied_message = "You may not see the list of users."
    template_name = "users/list.html"
    context_object_name = "people"
    paginate_by = 25

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.search_text = clean_search(request.GET.get("q", ""))
        self.sort = Sort.parse(request.GET.get("sort", ""))
        status = request.GET.get("status", "")
        self.status = status if status in STATUSES else ""

    def get_queryset(self) -> QuerySet[User]:
        people = search(User.objects.defer("password"), self.search_text)
        if self.status:
            people = people.filter(STATUSES[self.status][1])
        return people.order_by(*self.sort.order_by)

    def paginate_queryset(self, queryset: QuerySet[User], page_size: int) -> tuple[Any, ...]:
        """Return the nearest existing page: users may be deleted between two requests."""
        paginator = self.get_paginator(queryset, page_size)
        page = paginator.get_page(self.request.GET.get(self.page_kwarg))
        return paginator, page, page.object_list, page.has_other_pages()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        page = context["page_obj"]
        return context | {
            "search_text": self.search_text,
            "sort": self.sort,
            "status": self.status,
            "statuses": [(key, label) for key, (label, _) in STATUSES.items()],
            "headers": self.sort.headers(),
            "pages": page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1),
            "ellipsis": page.paginator.ELLIPSIS,
            "total": f"{page.paginator.count:,}",
            "shown": f"{page.start_index():,}–{page.end_index():,}",  # noqa: RUF001 - "1 to 25"
        }


class UserDetail(UserPage, DetailView):
    permission_required = "users.view_user"
    permission_denied_message = "You may not look at users."
    template_name = "users/detail.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        actor, person = self.request.user, self.object
        manageable = can_manage(actor, person)
        return super().get_context_data(
            can_edit=manageable and actor.has_perm("users.change_user"),
            can_delete=manageable and actor != person and actor.has_perm("users.delete_user"),
            **kwargs,
        )


class UserCreate(SavesUser, UserPage, CreateView):
    permission_required = "users.add_user"
    permission_denied_message = "You may not create users."
    form_class = UserCreateForm

    def get_success_message(self, cleaned_data: dict[str, Any]) -> str:  # noqa: ARG002
        return f"{self.object.display_name} was created."


class UserEdit(ExistingUser, SavesUser, UserPage, UpdateView):
    permission_required = "users.change_user"
    permission_denied_message = "You may not change users."
    form_class = UserEditForm

    def get_success_message(self, cleaned_data: dict[str, Any]) -> str:  # noqa: ARG002
        return f"{self.object.display_name} was changed."


class UserDelete(ExistingUser, FormPage, UserPage, DeleteView):
    permission_required = "users.delete_user"
    permission_denied_message = "You may not delete users."
    template_name = "users/confirm_delete.html"

    def get_object(self, queryset: QuerySet[User] | None = None) -> User:
        person = super().get_object(queryset)
        if person == self.request.user:
            raise PermissionDenied("You cannot delete yourself.")
        return person

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        entries = self.object.logentry_set.count()
        return super().get_context_data(log_entries=entries, **kwargs)

    def get_success_message(self, cleaned_data: dict[str, Any]) -> str:  # noqa: ARG002
        return f"{self.name_before} was deleted."

    def get_success_url(self) -> str:
        return reverse("users:list") + list_query(self.request.GET)


@method_decorator(never_cache, name="dispatch")
class Profile(LoginRequiredMixin, DetailView):
    """The account of the logged-in user, who needs no permission for it."""

    http_method_names = ("get", "head", "options")
    login_url = reverse_lazy("users:login")
    context_object_name = "person"
    template_name = "users/profile.html"

    def get_object(self, queryset: QuerySet[User] | None = None) -> User:  # noqa: ARG002
        return self.request.user


class ChangePassword(SuccessMessageMixin, PasswordChangeView):
    form_class = OwnPasswordForm
    template_name = "users/password.html"
    success_url = reverse_lazy("users:profile")
    success_message = "Your password was changed."
    login_url = reverse_lazy("users:login")


class Login(LoginView):
    template_name = "users/login.html"
    redirect_authenticated_user = True

    def get_default_redirect_url(self) -> str:
        """Return the list for users who may see it, and the own account for the others."""
        allowed = self.request.user.has_perm("users.view_user")
        return reverse("users:list" if allowed else "users:profile")


class Logout(LogoutView):
    next_page = reverse_lazy("users:login")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().post(request, *args, **kwargs)
        messages.info(request, "You are logged out.")
        return response
