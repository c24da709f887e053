"""Who may change or delete whom.

Django's permissions say what people may do to users in general. That alone would let everybody
with `users.change_user` take over a superuser's account, by way of its email address for example,
or lock the superuser out. So, on top: nobody manages an account that can do more than their own.
"""

from django.contrib.auth.models import Permission
from django.db.models import Q

from users.models import User


def can_manage(actor: User, person: User) -> bool:
    """Say whether `person` has no power that `actor` lacks.

    This comes in addition to the permission for the action itself. One query, for people who are
    neither superusers nor managed by one.
    """
    if actor.is_superuser:
        return True
    if person.is_superuser or (person.is_staff and not actor.is_staff):
        return False
    return _granted_permissions(person) <= actor.get_all_permissions()


def _granted_permissions(person: User) -> set[str]:
    """Return what was granted to somebody, active or not.

    `get_all_permissions()` is empty for inactive people. They would look harmless, and could be
    activated by people who are not allowed to touch them once they are active.
    """
    granted = Permission.objects.filter(Q(user=person) | Q(group__user=person))
    pairs = granted.order_by().values_list("content_type__app_label", "codename")
    return {f"{app_label}.{codename}" for app_label, codename in pairs}
