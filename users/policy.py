"""Policy: which users may change or delete which accounts.

Django's permissions apply to all users. With `users.change_user` alone, a user could take over a
superuser's account, for example by changing its email address, or lock the superuser out. So
accounts with more privileges than one's own cannot be managed.
"""

from django.contrib.auth.models import Permission
from django.db.models import Q

from users.models import User


def can_manage(actor: User, person: User) -> bool:
    """Tell whether `person` has no privilege that `actor` lacks.

    The permission for the action is checked separately. Costs one query if neither is a superuser.
    """
    if actor.is_superuser:
        return True
    if person.is_superuser or (person.is_staff and not actor.is_staff):
        return False
    return _granted_permissions(person) <= actor.get_all_permissions()


def _granted_permissions(person: User) -> set[str]:
    """Return the granted permissions of a user, active or not.

    `get_all_permissions()` is empty for inactive users; with it, users could activate accounts that
    have more privileges than their own.
    """
    granted = Permission.objects.filter(Q(user=person) | Q(group__user=person))
    pairs = granted.order_by().values_list("content_type__app_label", "codename")
    return {f"{app_label}.{codename}" for app_label, codename in pairs}
