"""A private PostgreSQL with PostGIS: Debian's programs, since the wheel has no extensions."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.postgres import PrivatePostgres

INSTALLATIONS = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL of Debian's that has PostGIS, if there is one."""
    found = sorted(
        (each for each in INSTALLATIONS.glob("*") if (each / "lib/postgis-3.so").exists()),
        key=lambda each: int(each.name),
    )
    return found[-1] / "bin" if found else None


class PostgisServer(PrivatePostgres):
    """The server; its options are fewer, since it may be older than the wheel's."""

    def find_programs(self) -> Path:
        found = programs()
        assert found is not None
        return found

    def initialise(self) -> None:
        password = Path(f"{self.folder}/password")
        password.touch(mode=0o600)
        password.write_text(self.password)
        self.hand_over(password)
        self.run(
            *("initdb", "--pgdata", f"{self.folder}/data", "--username", self.user),
            *("--auth", "scram-sha-256", "--pwfile", str(password)),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        )
        password.unlink()
        settings = {
            "fsync": "off",
            "listen_addresses": f"'{self.host}'",
            "timezone": "'UTC'",
            "unix_socket_directories": f"'{self.folder}'",
        }
        configuration = Path(f"{self.folder}/data/postgresql.auto.conf")
        owner = configuration.stat()
        configuration.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        os.chown(configuration, owner.st_uid, owner.st_gid)
