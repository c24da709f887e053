"""The servers of the fault tests fail over for real."""

from __future__ import annotations

import pytest

from tests.support.faulty_servers import primary_and_standby
from tests.support.servers import driver, execute


def test_a_standby_follows_refuses_writes_and_takes_over() -> None:
    with primary_and_standby() as (primary, standby):
        execute(primary.url, "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (7)")
        standby.wait_for(primary)
        assert execute(standby.url, "SELECT x FROM kept") == [(7,)]
        with pytest.raises(driver().Error, match="read-only transaction") as caught:
            execute(standby.url, "INSERT INTO kept VALUES (8)")
        code = getattr(caught.value, "sqlstate", None) or getattr(caught.value, "pgcode", None)
        assert code == "25006"
        primary.stop("immediate")
        standby.promote()
        execute(standby.url, "INSERT INTO kept VALUES (8)")
        assert execute(standby.url, "SELECT count(*) FROM kept") == [(2,)]
