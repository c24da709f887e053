"""The project as ASGI application, for servers in front of it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "poolproject.settings")

application = get_asgi_application()
