"""Who holds a connection, in words: the request, the task, the command, or what the code says."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started

from pooling import PoolTimeout, activity
from tests.support.databases import PATIENCE, Database, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.projects import Project


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.activity.urls"
    settings.MIDDLEWARE = []


@pytest.fixture(autouse=True)
def _context() -> Iterator[None]:
    """No test leaves an activity behind, and none begins with one."""
    assert activity.current() is None
    yield
    activity._CURRENT.set(None)
    activity._OUTER.set(None)


def wsgi(path: str, query: str = "", *, close: bool = True, **more: str) -> str:
    """Do what a WSGI server does with a request, in this thread, and return the answer."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        **more,
    }
    response: Any = WSGIHandler()(environ, lambda *_: None)
    body = b"".join(response).decode()
    if close:
        response.close()
    return body


async def asgi(path: str, query: str = "") -> Any:
    """Do what an ASGI server does with a request, in a task of its own, and return the answer."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [],
    }
    body = bytearray()
    gone = asyncio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        body.extend(message.get("body", b""))

    await get_asgi_application()(scope, receive, send)
    return json.loads(body)


def test_a_request_is_its_method_and_path() -> None:
    assert json.loads(wsgi("/users/7/")) == {"current": "GET /users/7/"}


def test_the_query_string_is_never_told() -> None:
    answer = wsgi("/search/", "q=secret&token=abc", HTTP_AUTHORIZATION="Bearer secret")

    assert json.loads(answer) == {"current": "GET /search/"}


def test_the_mount_point_is_part_of_the_path() -> None:
    assert json.loads(wsgi("/users/", SCRIPT_NAME="/app")) == {"current": "GET /app/users/"}


def test_a_path_beyond_ascii_is_readable() -> None:
    raw = "/caf\u00e9/".encode().decode("latin-1")

    assert json.loads(wsgi(raw)) == {"current": "GET /caf\u00e9/"}


def test_a_long_path_is_cut() -> None:
    told = activity.request_of({"REQUEST_METHOD": "GET", "PATH_INFO": "/" + "x" * 100_000})

    assert len(told) == activity.MAX_LENGTH
    assert told.endswith("x…")


def test_a_path_cannot_forge_a_line_of_the_log() -> None:
    told = activity.request_of({"REQUEST_METHOD": "GET", "PATH_INFO": "/a\nERROR pooling\x1b[2J"})

    assert told == r"GET /a\nERROR pooling\x1b[2J"


def test_after_a_request_the_thread_does_nothing() -> None:
    wsgi("/users/")

    assert activity.current() is None


def test_while_an_answer_is_streamed_the_request_goes_on() -> None:
    assert wsgi("/stream/") == "GET /stream/"
    assert activity.current() is None


def test_a_server_that_forgets_to_close_leaves_nothing_to_the_next_request() -> None:
    wsgi("/first/", close=False)

    assert json.loads(wsgi("/second/")) == {"current": "GET /second/"}
    assert activity.current() is None


def test_threads_that_serve_at_the_same_time_know_their_own_request() -> None:
    paths = [f"/number/{number}/" for number in range(40)]

    with ThreadPoolExecutor(4) as executor:
        answers = list(executor.map(wsgi, paths))
        after = list(executor.map(lambda _: activity.current(), paths))

    assert [json.loads(answer)["current"] for answer in answers] == [f"GET {p}" for p in paths]
    assert set(after) == {None}


def test_an_asgi_request_is_known_in_its_view_and_in_the_threads_that_work_for_it() -> None:
    async def serve() -> list[Any]:
        return await asyncio.gather(asgi("/async/", "q=secret"), asgi("/sync/"), asgi("/async/"))

    both = {"current": "GET /async/", "in_thread": "GET /async/"}

    assert asyncio.run(serve()) == [both, {"current": "GET /sync/"}, both]


def test_an_asgi_request_that_ends_in_the_same_task_leaves_nothing_behind() -> None:
    async def serve() -> list[str | None]:
        first = (await asgi("/sync/"))["current"]
        return [first, activity.current(), (await asgi("/next/"))["current"]]

    first, between, second = asyncio.run(serve())

    assert (first, second) == ("GET /sync/", "GET /next/")
    assert between in (None, "GET /sync/")  # the task is the test's here, a server makes its own


def test_the_receiver_for_asgi_is_not_asked_for_wsgi() -> None:
    """An asynchronous one would cost every WSGI request an event loop."""
    assert not request_started._live_receivers(WSGIHandler)[1]
    assert len(request_started._live_receivers(ASGIHandler)[1]) == 1
    assert not request_finished._live_receivers(WSGIHandler)[1]


def test_code_says_what_it_is_doing() -> None:
    with activity.doing("nightly import"):
        assert activity.current() == "nightly import"
        with activity.doing("step 2"):
            assert activity.current() == "step 2"
        assert activity.current() == "nightly import"
    assert activity.current() is None


def test_what_code_says_ends_with_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), activity.doing("nightly import"):
        raise ZeroDivisionError
    assert activity.current() is None


def test_a_request_inside_of_other_work_leaves_that_work_behind() -> None:
    with activity.doing("a test with a client"):
        wsgi("/users/")
        assert activity.current() == "a test with a client"


def test_a_thread_that_copies_the_context_goes_on_with_the_work() -> None:
    found: list[str | None] = []
    with activity.doing("nightly import"):
        context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=[lambda: found.append(activity.current())])
    thread.start()
    thread.join(PATIENCE)

    assert found == ["nightly import"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["manage.py", "migrate", "--fake"], "manage.py migrate"),
        (["/srv/app/manage.py", "import_users", "secret"], "manage.py import_users"),
        (["/venv/bin/django-admin", "shell"], "manage.py shell"),
        (["/lib/django/__main__.py", "check"], "manage.py check"),
        (["manage.py"], None),
        (["manage.py", "--help"], None),
        (["manage.py", "no command; rm"], None),
        (["/venv/bin/gunicorn", "app:application"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_command_is_known_by_its_name_alone(argv: list[str], expected: str | None) -> None:
    assert activity.command_of(argv) == expected


class Task:
    name = "users.tasks.send_mail"


def test_celery_tasks_are_known_while_they_run() -> None:
    from celery import signals

    assert activity.current() is None
    signals.task_prerun.connect(activity._task_started, weak=False)
    signals.task_postrun.connect(activity._task_finished, weak=False)
    try:
        signals.task_prerun.send(sender=Task, task_id="1", task=Task)
        assert activity.current() == "task users.tasks.send_mail"
        signals.task_prerun.send(sender="called by the first", task_id="2")
        assert activity.current() == "task called by the first"
        signals.task_postrun.send(sender=Task, task_id="2")
        assert activity.current() == "task users.tasks.send_mail"
        signals.task_postrun.send(sender=Task, task_id="1")
        assert activity.current() is None
        signals.task_postrun.send(sender=Task, task_id="3")  # of one that began before we came
        assert activity.current() is None
    finally:
        signals.task_prerun.disconnect(activity._task_started)
        signals.task_postrun.disconnect(activity._task_finished)


SETTINGS = """
import sys
{imports}
from django.conf import settings

settings.configure(INSTALLED_APPS=["pooling"], POOLING={options})
import django

django.setup()
print("celery" in sys.modules)
from pooling import activity
from django.core.signals import request_started
{then}
"""


def run(imports: str = "", options: str = "{}", then: str = "") -> str:
    script = SETTINGS.format(imports=imports, options=options, then=then)
    answer = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    assert answer.stderr == ""
    return answer.stdout


def test_celery_is_not_imported_for_its_signals() -> None:
    assert run() == "False\n"


def test_celery_is_listened_to_where_it_is_used() -> None:
    then = """
from celery import Celery
app = Celery("x")
app.conf.task_always_eager = True
@app.task(name="work")
def work():
    return activity.current()
print(work.delay().get(), activity.current())
"""
    assert run("import celery", then=then) == "True\ntask work None\n"


def test_watching_can_be_turned_off() -> None:
    then = "request_started.send(object, environ={'PATH_INFO': '/x'}); print(activity.current())"

    assert run(options="{'activity': False}", then=then) == "False\nNone\n"
    assert run(then=then) == "False\n? /x\n"


def test_a_lease_says_what_it_is_for(database: Database) -> None:
    wrapper = database.wrapper()
    with activity.doing("nightly import"):
        wrapper.ensure_connection()
    pool: Any = wrapper.resolve_pool()  # type: ignore[attr-defined]

    assert [holder.note for holder in pool.holders()] == ["nightly import"]
    wrapper.close()
    wrapper.ensure_connection()
    assert [holder.note for holder in pool.holders()] == [None]


def test_a_timeout_names_the_requests_that_hold_the_connections(database: Database) -> None:
    holder = database.wrapper(pool={"max_size": 1})
    request_started.send(WSGIHandler, environ={"REQUEST_METHOD": "GET", "PATH_INFO": "/report/"})
    holder.ensure_connection()
    request_finished.send(WSGIHandler)

    pool: Any = holder.resolve_pool()  # type: ignore[attr-defined]
    with pytest.raises(PoolTimeout, match=r"\(GET /report/\)"):
        pool.acquire(timeout=0)


def test_a_waiter_is_known_by_what_it_is_doing(database: Database) -> None:
    holder = database.wrapper(pool={"max_size": 1})
    holder.ensure_connection()
    pool: Any = holder.resolve_pool()  # type: ignore[attr-defined]
    notes: list[str | None] = []

    def wait() -> None:
        other = database.wrapper(pool={"max_size": 1})
        with activity.doing("the second"):
            other.ensure_connection()
        notes.extend(each.note for each in pool.holders())
        other.close()

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: pool.stats().waiting == 1)
    holder.close()
    thread.join(PATIENCE)

    assert notes == ["the second"]


def test_a_management_command_is_known(project: Project) -> None:
    command = """
from django.core.management.base import BaseCommand
from django.db import connection
from pooling import get_pool

class Command(BaseCommand):
    def handle(self, **options):
        connection.ensure_connection()
        print([holder.note for holder in get_pool().holders()])
"""
    project.write("things/management/__init__.py", "")
    project.write("things/management/commands/__init__.py", "")
    project.write("things/management/commands/who.py", command)

    assert project.manage("who").stdout == "['manage.py who']\n"


def test_reading_it_is_one_read_of_a_context_variable() -> None:
    """It is on the path of every acquire."""
    current: Callable[[], str | None] = activity.current

    assert current.__self__ is activity._CURRENT  # type: ignore[attr-defined]
