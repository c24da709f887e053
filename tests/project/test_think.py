"""The view for `scope="transaction"`, which the demo has under DEBUG."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from poolproject import views

if TYPE_CHECKING:
    from django.test import RequestFactory

    from tests.project.conftest import Project

PRINT_ROUTES = """
import django
django.setup()
from poolproject.urls import urlpatterns
print([str(each.pattern) for each in urlpatterns])
"""


@pytest.mark.django_db
def test_it_reads_and_writes(
    rf: RequestFactory, django_user_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []
    monkeypatch.setattr(views.time, "sleep", paused.append)
    django_user_model.objects.create_user("someone", email="someone@pooling.example")
    assert json.loads(views.think(rf.get("/think/")).content) == {"users": 1}
    assert paused == [views.SECONDS]


@pytest.mark.parametrize("debug", [True, False])
def test_it_is_there_under_debug_alone(project: Project, debug: bool) -> None:
    found = project.python(
        "-c",
        PRINT_ROUTES,
        DJANGO_SETTINGS_MODULE="poolproject.settings",
        DEBUG=str(debug),
        SECRET_KEY="x" * 50,
    )
    assert found.returncode == 0, found.stderr
    assert ("think/" in found.stdout) is debug
