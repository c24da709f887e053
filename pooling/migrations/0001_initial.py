"""Create the permissions of the page "Connection pools"; no table."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Create the unmanaged model."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar = [
        migrations.CreateModel(
            name="ConnectionPool",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False)),
            ],
            options={
                "verbose_name": "connection pool",
                "verbose_name_plural": "connection pools",
                "default_permissions": ("view", "change"),
                "managed": False,
            },
        ),
    ]
