"""The web service's entry point."""

from __future__ import annotations

import os
import warnings
from importlib import import_module

import django
from django.conf import settings

from scheduler_project import celery_app
from scheduler_project.handler import Handler
from scheduler_project.lean import import_alone

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_project.settings")

if settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
    # There are more threads than connections, for most of them wait: a request borrows
    # one from a pool.
    settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
    settings.DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 1,
        "max_size": settings.WEB_DATABASE_CONNECTIONS,
        "timeout": 5,
    }

# WhiteNoise hands out small files by a plain iterator, which Django reads at once.
warnings.filterwarnings(
    "ignore", message="StreamingHttpResponse must consume synchronous iterators"
)

import_alone("rest_framework.compat")
django.setup(set_prefix=False)
application = Handler()
# Before gunicorn forks, not at the first request: its workers share what is loaded.
import_module(settings.ROOT_URLCONF)
celery_app.connection_for_write()  # loads the broker's library, and connects nowhere
