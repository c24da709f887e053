"""The project as WSGI application, for servers in front of it."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "poolproject.settings")

application = get_wsgi_application()
