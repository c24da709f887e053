"""What a request leased: the recorder, Server-Timing, and the panel of django-debug-toolbar."""
