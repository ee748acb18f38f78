"""Django's settings of the peers that use Django, by the environment."""

from __future__ import annotations

import os
from importlib.util import find_spec
from urllib.parse import urlsplit

_database = urlsplit(os.environ["DATABASE_URL"])
_has_django_q = find_spec("django_q") is not None

SECRET_KEY = os.environ["SECRET_KEY"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["bench_peers", *(["django_q"] if _has_django_q else [])]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.lstrip("/"),
        "USER": _database.username,
        "PASSWORD": _database.password,
        "HOST": _database.hostname,
        "PORT": _database.port,
        "CONN_MAX_AGE": None,
    }
}
Q_CLUSTER = {
    "name": os.environ.get("QUEUE", ""),
    "orm": "default",
    "workers": int(os.environ.get("CONCURRENCY", "1")),
    "bulk": 50,
    "queue_limit": 100,
    "poll": 0.05,
    "save_limit": 0,  # keep all
    "timeout": 60,
    "retry": 600,
    "max_attempts": 1,
    "recycle": 100_000,
    "scheduler": False,
    "log_level": "WARNING",
}
