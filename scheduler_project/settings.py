"""Every setting of Gnomon, read once from the environment, typed, with its unit.

Any variable `NAME` may be given as `NAME_FILE`, the path of a file that holds the
value: the way of Docker and Kubernetes secrets. Times are in seconds.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from datetime import timedelta
from logging.config import dictConfig
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from scheduler_project.lean import is_work
from scheduler_project.observability.logging import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()

VAR_DIR = Path(env.str("GNOMON_VAR", default=str(BASE_DIR / "var")))
"""Where an embedded installation keeps its data."""


def _local_secret_key() -> str:
    """The key of an embedded installation, made at its first start.

    Production gives SECRET_KEY (or SECRET_KEY_FILE), so that all hosts share it.
    """
    path = VAR_DIR / "secret_key"
    if not path.exists():
        VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(64))
    return path.read_text()


# --- Django -------------------------------------------------------------------------
SECRET_KEY = env.str("SECRET_KEY", default="") or _local_secret_key()
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
ROOT_URLCONF = "scheduler_project.urls"
ASGI_APPLICATION = "scheduler_project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = env.str("LANGUAGE_CODE", default="en")
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

WORK_APPS = ["django_celery_beat", "tasks_app", "workers_app"]
"""What a beat or a worker needs: the ledger's models, and no page and no API."""
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    *WORK_APPS,
    "scheduler_project",
]
if is_work(sys.argv):
    INSTALLED_APPS = WORK_APPS  # a third of the memory (docs/footprint.md)

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

STATIC_URL = "static/"
# Only where `collectstatic` puts them together, as an image does.
STATIC_ROOT = env.str("STATIC_ROOT", default=None)
WHITENOISE_USE_FINDERS = True  # no collectstatic step between clone and start

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- TLS: everything that only makes sense behind HTTPS, by one switch --------------
HTTPS = env.bool("HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Strict"

# --- Database -----------------------------------------------------------------------
LEASE_SECONDS = env.float("LEASE_SECONDS", default=30.0)
DATABASE_URL = env.str("DATABASE_URL", default=f"sqlite:///{VAR_DIR}/gnomon.sqlite3")


def _sqlite(path: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "TEST": {"NAME": f"{path}-tests"},  # threads need a file, not memory
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }


DATABASE_POOLER = env.bool("DATABASE_POOLER", default=False)
"""A pooler that hands out transactions stands before PostgreSQL (docs/scaling.md)."""
SESSION_OPTIONS = f"-c idle_in_transaction_session_timeout={LEASE_SECONDS:g}s"
"""A process that is frozen within a transaction must not hold its locks. A pooler
refuses them: there the role has them."""


def _postgresql(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))  # libpq's form of a socket: ?host=/run/pg
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", "") or unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        # Beat and worker threads keep their connection; the web, which serves each
        # request on a thread of its own, borrows one from a pool (see asgi.py).
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        # Automatic prepare turns the set-based updates into generic plans that scan
        # the table once it has grown (measured: throughput collapsed in 6 of 8 runs).
        # What is prepared is so on purpose (tasks_app/ledger/plans.py).
        "OPTIONS": {
            "prepare_threshold": None,
            "connect_timeout": 5,
            **({} if DATABASE_POOLER else {"options": SESSION_OPTIONS}),
            **query,
        },
        # The next transaction may be on another connection, without the cursor.
        "DISABLE_SERVER_SIDE_CURSORS": DATABASE_POOLER,
    }


def database_settings(url: str) -> dict[str, Any]:
    """Django's settings of the database at `url`.

    Raises:
        ImproperlyConfigured: it is neither SQLite nor PostgreSQL.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return _sqlite(rest.removeprefix("/"))
    if scheme in {"postgres", "postgresql"}:
        return _postgresql(url)
    raise ImproperlyConfigured(
        f"DATABASE_URL begins with {scheme!r}: use postgresql://user:password@host/name"
        " or sqlite:////path/to/file"
    )


DATABASES = {"default": database_settings(DATABASE_URL)}
HISTORY_DATABASE_URL = env.str("HISTORY_DATABASE_URL", default="")
"""Where `manage.py archive` moves months of finished runs (docs/archive.md)."""
if HISTORY_DATABASE_URL:
    DATABASES["history"] = database_settings(HISTORY_DATABASE_URL)
    if any("postgresql" not in each["ENGINE"] for each in DATABASES.values()):
        raise ImproperlyConfigured(
            "HISTORY_DATABASE_URL needs PostgreSQL, there and in DATABASE_URL: only"
            " there are runs kept by the month"
        )
DATABASE_ROUTERS = ["scheduler_project.routing.HistoryRouter"]
WEB_DATABASE_CONNECTIONS = env.int("WEB_DATABASE_CONNECTIONS", default=10)
"""Connections to PostgreSQL that one web process keeps at the most."""

# --- Broker -------------------------------------------------------------------------
BROKER_URL = env.str("BROKER_URL", default="redis://127.0.0.1:6379/0")
TASK_EVENTS = env.bool("TASK_EVENTS", default=False)
"""Send Celery's task events, which Flower shows; costs up to half the throughput."""

# --- Promises (docs/promises.md) ----------------------------------------------------
HEARTBEAT_SECONDS = env.float("HEARTBEAT_SECONDS", default=5.0)
UPKEEP_SECONDS = env.float("UPKEEP_SECONDS", default=5.0)
"""How often beat looks for expired leases and start deadlines."""
POLL_SECONDS = env.float("POLL_SECONDS", default=1.0)
"""How often a worker with room looks for runs by itself, should a message be lost."""
MAX_DOORBELLS = env.int("MAX_DOORBELLS", default=100)
"""Messages that may lie unread in a queue of the broker: the ledger has the backlog."""
CANCEL_GRACE_SECONDS = env.float("CANCEL_GRACE_SECONDS", default=10.0)
MISFIRE_GRACE_SECONDS = env.int("MISFIRE_GRACE_SECONDS", default=60)
MISFIRE_CAP = env.int("MISFIRE_CAP", default=1000)
MAX_QUEUED_RUNS = env.int("MAX_QUEUED_RUNS", default=10_000)
"""Runs of one task that may wait, unless the task says otherwise (max_queued)."""
RETENTION_DAYS = env.int("RETENTION_DAYS", default=90)
"""How long runs are kept, unless task or project say otherwise; 0: for ever."""
BACKFILL_CAP = env.int("BACKFILL_CAP", default=1000)
BREAKER_FAILURES = env.int("BREAKER_FAILURES", default=5)
BREAKER_SECONDS = env.float("BREAKER_SECONDS", default=30.0)
"""How long a target that failed is left alone before a probe."""
MAX_LOG_BYTES = env.int("MAX_LOG_BYTES", default=5 * 1024 * 1024)
IDEMPOTENCY_SECONDS = env.int("IDEMPOTENCY_SECONDS", default=24 * 3600)

if LEASE_SECONDS < 4 * HEARTBEAT_SECONDS:
    raise ImproperlyConfigured(
        f"LEASE_SECONDS ({LEASE_SECONDS:g}) must be at least 4 x HEARTBEAT_SECONDS"
        f" ({HEARTBEAT_SECONDS:g}): a lease has to outlive a few lost heartbeats"
    )

# --- Worker -------------------------------------------------------------------------
WORKER_CONCURRENCY = env.int("WORKER_CONCURRENCY", default=64)
"""Runs that one worker holds at a time; a run costs it about 16 KB."""
WORKER_QUEUES = env.list("WORKER_QUEUES", default=["default"])
JOB_PID_NAMESPACE = env.list("JOB_PID_NAMESPACE", default=["root"])
"""Ways to a PID namespace that a worker tries, so that nothing of its jobs can outlive
it: `root`, and `user` (a user namespace, in which sudo does not work)."""
if set(JOB_PID_NAMESPACE) - {"root", "user", "none"}:
    raise ImproperlyConfigured(
        f"JOB_PID_NAMESPACE is {','.join(JOB_PID_NAMESPACE)}: give root, user, both by"
        " comma, or none"
    )
WORKER_TAGS = env.list("WORKER_TAGS", default=[])
"""What tasks may ask for in a worker, as in gpu,zone=eu-1."""

# --- API ----------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    # Denies by default: each view names its actions, tasks_app.policy the permissions.
    "DEFAULT_PERMISSION_CLASSES": ["tasks_app.api.permissions.PolicyPermission"],
    "DEFAULT_PARSER_CLASSES": ["tasks_app.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "tasks_app.api.negotiation.JsonOnly",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "tasks_app.api.errors.ProblemHandler",
    "EXCEPTION_FORMATTER_CLASS": "tasks_app.api.errors.ProblemFormatter",
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=7),
    # Not SECRET_KEY itself: what signs tokens opens no session.
    "SIGNING_KEY": hashlib.sha256(f"gnomon.jwt:{SECRET_KEY}".encode()).hexdigest(),
    "ISSUER": "gnomon",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Gnomon",
    "DESCRIPTION": "Cron for a fleet: a task scheduler that accounts for every fire.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["tasks_app.api.permissions.PolicyPermission"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "persistAuthorization": False},
    "PREPROCESSING_HOOKS": ["tasks_app.api.openapi.without_trailing_slash"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "tasks_app.api.openapi.closed_bodies",
    ],
    "ENUM_NAME_OVERRIDES": {
        "RunStatus": "tasks_app.choices.RunStatus",
        "WorkerStatus": "workers_app.models.SHOWN_STATUSES",
        "Trigger": "tasks_app.choices.Trigger",
        "Misfire": "tasks_app.choices.Misfire",
        "Delivery": "tasks_app.choices.Delivery",
        "Backoff": "tasks_app.choices.Backoff",
        "TriggerRule": "tasks_app.choices.TriggerRule",
        "Overlap": "tasks_app.choices.Overlap",
        "Placement": "tasks_app.choices.Placement",
        "BlackoutAction": "tasks_app.choices.BlackoutAction",
        "BreakerState": "tasks_app.choices.BreakerState",
        "AlertKind": "tasks_app.choices.AlertKind",
        "EventKind": "tasks_app.choices.EventKind",
        "TaskStatus": [("active", "Active"), ("paused", "Paused")],
        "CancelStatus": [
            ("cancelled", "cancelled"),
            ("cancel_requested", "cancel_requested"),
        ],
    },
}


# --- Admin --------------------------------------------------------------------------
def _favicon(_request: object) -> str:
    # Here, for it loads the templates, of which a beat or a worker has none.
    from django.templatetags.static import static  # noqa: PLC0415

    return static("gnomon/favicon.svg")


UNFOLD = {
    "SITE_TITLE": "Gnomon",
    "SITE_HEADER": "Gnomon",
    "SITE_SYMBOL": "schedule",
    "SITE_URL": None,
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": _favicon,
        }
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "tasks_app.admin.dashboard.dashboard",
    "COLORS": {
        "primary": {
            "50": "#eff6ff",
            "100": "#dbeafe",
            "200": "#bfdbfe",
            "300": "#93c5fd",
            "400": "#60a5fa",
            "500": "#3b82f6",
            "600": "#2563eb",
            "700": "#1d4ed8",
            "800": "#1e40af",
            "900": "#1e3a8a",
            "950": "#172554",
        }
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "tasks_app.admin.navigation.navigation",
    },
}

LOGGING = logging_config(
    level=env.str("LOG_LEVEL", default="INFO"),
    is_json=env.str("LOG_FORMAT", default="json") == "json",
)
# Not by Django, which first sets up its own: mail to administrators, of which there
# are none, and for that the debug page with all of its templates, 1 MB.
LOGGING_CONFIG = None
dictConfig(LOGGING)
