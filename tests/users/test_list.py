from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains

from tests.users.html import Page
from users.listing import COLUMNS, MAX_SEARCH_WORDS, Sort, clean_search
from users.models import User

if TYPE_CHECKING:
    from django.http import HttpResponse
    from django.test import Client

    from tests.users.conftest import LogIn

LIST = reverse("users:list")


@pytest.fixture
def reader(log_in: LogIn) -> Client:
    return log_in("view", username="aaa-reader")


def add(*usernames: str, **fields: Any) -> None:
    people = (User(username=name, email=f"{name}@example.org", **fields) for name in usernames)
    User.objects.bulk_create(people)


def usernames(response: HttpResponse) -> list[str]:
    return [person.username for person in response.context["people"]]


class TestSearch:
    @pytest.fixture(autouse=True)
    def people(self, db: None) -> None:
        for username, first, last, email in (
            ("ada", "Ada", "Lovelace", "ada@analytical.example"),
            ("grace", "Grace", "Hopper", "hopper@navy.example"),
            ("percent", "100%", "", "under_score@example.net"),
        ):
            User.objects.create_user(username, email, first_name=first, last_name=last)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("lovelace", ["ada"]),
            ("LOVE", ["ada"]),
            ("grac", ["grace"]),
            ("navy.example", ["grace"]),
            ("hopper grace", ["grace"]),
            ("  ada   lovelace ", ["ada"]),
            ("ada hopper", []),
            ("100%", ["percent"]),
            ("%", ["percent"]),
            ("_score", ["percent"]),
            ("\x00ada", ["ada"]),
            ("'; DROP TABLE users_user; --", []),
        ],
    )
    def test_every_word_has_to_occur_somewhere(
        self, reader: Client, text: str, expected: list[str]
    ) -> None:
        assert usernames(reader.get(LIST, {"q": text})) == expected

    def test_it_says_how_many_it_found_and_keeps_the_text(self, reader: Client) -> None:
        response = reader.get(LIST, {"q": "ada"})
        assertContains(response, "matching “ada”")
        assertContains(response, 'name="q" value="ada"')

    def test_it_says_when_nothing_matches(self, reader: Client) -> None:
        response = reader.get(LIST, {"q": "<nobody>"})
        assertContains(response, "No users match “&lt;nobody&gt;”")
        assertNotContains(response, "<table")

    def test_it_keeps_the_order(self, reader: Client) -> None:
        response = reader.get(LIST, {"q": "a", "sort": "-email"})
        assertContains(response, '<input type="hidden" name="sort" value="-email">')

    def test_its_cost_is_bounded(self) -> None:
        assert len(clean_search("a " * 1000).split()) == MAX_SEARCH_WORDS
        assert len(clean_search("a" * 100_000)) == 100


class TestSort:
    @pytest.fixture(autouse=True)
    def people(self, db: None) -> None:
        now = timezone.now() + timedelta(days=1)
        for age, (username, first, last, email) in enumerate(
            (
                ("bert", "Zoe", "Adams", "c@example.com"),
                ("carl", "Yan", "Adams", "a@example.com"),
                ("anna", "Xia", "Brown", "b@example.com"),
            )
        ):
            User.objects.create(
                username=username,
                first_name=first,
                last_name=last,
                email=email,
                date_joined=now - timedelta(days=age),
            )

    @pytest.mark.parametrize(
        ("sort", "expected"),
        [
            ("name", "carl bert anna"),
            ("-name", "anna bert carl"),
            ("username", "anna bert carl"),
            ("-username", "carl bert anna"),
            ("email", "carl anna bert"),
            ("-email", "bert anna carl"),
            ("joined", "anna carl bert"),
            ("-joined", "bert carl anna"),
        ],
    )
    def test_each_column_sorts_both_ways(self, reader: Client, sort: str, expected: str) -> None:
        response = reader.get(LIST, {"q": "example.com", "sort": sort})
        found = [name for name in usernames(response) if name != reader.user.username]
        assert found == expected.split()

    @pytest.mark.parametrize("sort", ["", "password", "-is_superuser", "--name", "name,pk", "?"])
    def test_anything_else_is_the_default_order(self, reader: Client, sort: str) -> None:
        response = reader.get(LIST, {"sort": sort})
        assert response.context["sort"] == Sort()
        assert "password" not in str(response.context["people"].query.order_by)

    @pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.key)
    def test_orders_are_complete_so_that_pages_never_overlap(self, column: Any) -> None:
        *_, last = column.fields
        field = User._meta.pk if last == "pk" else User._meta.get_field(last)
        assert field.unique

    def test_headers_say_how_the_list_is_sorted_and_lead_to_the_other_way(
        self, reader: Client
    ) -> None:
        page = Page(reader.get(LIST, {"sort": "email", "q": "example", "page": 1}).content.decode())
        assert page.attribute("aria-sort") == ["ascending"]
        links = [attrs["href"] for attrs in page.all("a") if "sort=" in (attrs["href"] or "")]
        for sort in ("name", "username", "-email", "joined"):
            assert f"?sort={sort}&q=example" in links

    def test_the_second_click_turns_the_order_round_and_the_third_back(self) -> None:
        assert [Sort.parse("email").headers()[2][key] for key in ("sort", "aria_sort")] == [
            "-email",
            "ascending",
        ]
        assert [Sort.parse("-email").headers()[2][key] for key in ("sort", "aria_sort")] == [
            "email",
            "descending",
        ]


class TestPages:
    def test_every_user_is_on_exactly_one_page(self, reader: Client) -> None:
        add(*(f"user{number}" for number in range(59)), last_name="Same")
        seen = [
            name
            for page in (1, 2, 3)
            for name in usernames(reader.get(LIST, {"page": page, "sort": "-name"}))
        ]
        assert len(seen) == len(set(seen)) == 60

    @pytest.mark.parametrize(
        ("page", "expected"), [("0", 2), ("-1", 2), ("99", 2), ("x", 1), ("9" * 5000, 1), ("2", 2)]
    )
    def test_a_page_that_is_not_there_shows_the_nearest(
        self, reader: Client, page: str, expected: int
    ) -> None:
        add(*(f"user{number}" for number in range(30)))
        response = reader.get(LIST, {"page": page})
        assert response.status_code == 200
        assert response.context["page_obj"].number == expected

    def test_links_to_pages_keep_search_and_order(self, reader: Client) -> None:
        add(*(f"user{number}" for number in range(80)))
        response = reader.get(LIST, {"q": "user", "sort": "-email", "page": "2"})
        assertContains(response, "?q=user&amp;sort=-email&amp;page=3")
        assertContains(response, 'aria-current="page"')
        assertContains(response, "26–50")  # noqa: RUF001 - an en dash
        assertContains(response, "of <strong>80</strong>")

    def test_one_page_needs_no_page_numbers(self, reader: Client) -> None:
        assertNotContains(reader.get(LIST), "pagination")

    def test_only_the_user_table_can_be_empty(self, reader: Client) -> None:
        """Somebody has to look at the list, so that nobody ever sees it empty without a search."""
        assert usernames(reader.get(LIST)) == ["aaa-reader"]

    @pytest.mark.parametrize("query", ["", "?q=user&sort=-joined&page=3"])
    def test_the_number_of_queries_does_not_grow(
        self, reader: Client, query: str, django_assert_num_queries: Any
    ) -> None:
        # The session, its user, the user's and their groups' permissions, the count, the page.
        for size in (70, 500):
            add(*(f"user{size}-{number}" for number in range(size)))
            with django_assert_num_queries(6):
                reader.get(LIST + query)

    def test_password_hashes_stay_in_the_database(self, reader: Client) -> None:
        assert "password" in reader.get(LIST).context["people"][0].get_deferred_fields()


class TestStatus:
    @pytest.fixture(autouse=True)
    def people(self, db: None) -> None:
        add("on")
        add("off", is_active=False)
        add("helper", is_staff=True)
        add("chief", is_superuser=True, is_staff=True)

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            ("inactive", {"off"}),
            ("staff", {"helper", "chief"}),
            ("superuser", {"chief"}),
            ("active", {"aaa-reader", "on", "helper", "chief"}),
            ("nonsense", {"aaa-reader", "on", "off", "helper", "chief"}),
        ],
    )
    def test_it_filters(self, reader: Client, status: str, expected: set[str]) -> None:
        assert set(usernames(reader.get(LIST, {"status": status}))) == expected

    def test_it_goes_with_a_search(self, reader: Client) -> None:
        assert usernames(reader.get(LIST, {"status": "staff", "q": "CHIEF"})) == ["chief"]
        assertContains(reader.get(LIST, {"status": "inactive", "q": "chief"}), "No users match")


@pytest.mark.parametrize("text", ["MÜLLER", "müller", "Müller", "éloïse", "ÉLOÏSE"])
def test_a_search_ignores_case_beyond_ascii(reader: Client, text: str) -> None:
    User.objects.create_user("m", "m@example.com", first_name="Éloïse", last_name="Müller")
    assert usernames(reader.get(LIST, {"q": text})) == ["m"]


def test_pages_of_a_user_lead_back_to_the_list_as_it_was(log_in: LogIn) -> None:
    client = log_in("view", "change", "delete", username="boss")
    for number in range(60):
        add(f"p{number:02}")
    query = {"q": "p", "sort": "-username", "status": "active", "page": "2"}
    encoded = "?q=p&amp;sort=-username&amp;status=active&amp;page=2"
    response = client.get(LIST, query)
    assertContains(response, 'name="page" min="1" max="3" value="2"')
    person = response.context["people"][0]
    assertContains(response, f'href="{person.get_absolute_url()}{encoded}"')
    for page in ("detail", "edit", "delete"):
        found = client.get(reverse(f"users:{page}", args=[person.pk]), query)
        assertContains(found, f'href="{LIST}{encoded}"')
    url = reverse("users:delete", args=[person.pk]) + encoded.replace("&amp;", "&")
    response = client.post(url)
    assert response["Location"] == LIST + encoded.replace("&amp;", "&")
