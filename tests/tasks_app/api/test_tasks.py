"""/tasks: define, read, change, pause, delete."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from tasks_app.choices import TaskStatus
from tasks_app.models import Calendar, Project, Task, TaskRun, TaskVersion
from tests.factories import backdate, end, make_run, make_task

pytestmark = pytest.mark.django_db

URL = "/api/v1/tasks"
SHELL = {"name": "backup-db", "executor": "shell", "command": "true"}
NIGHTLY = {**SHELL, "schedule": {"cron": "0 3 * * *", "timezone": "Asia/Shanghai"}}


def create(api: APIClient, **values: Any) -> dict[str, Any]:
    response = api.post(URL, {**SHELL, **values})
    assert response.status_code == 201, response.content
    body: dict[str, Any] = response.json()
    return body


def codes(response: Any) -> dict[str, str]:
    """The code by pointer."""
    return {error["pointer"]: error["code"] for error in response.json()["errors"]}


def test_create_answers_with_the_task_and_where_it_is(admin: APIClient) -> None:
    response = admin.post(URL, NIGHTLY)
    task = response.json()
    assert response.status_code == 201
    assert response["Location"] == f"http://testserver{URL}/{task['id']}"
    assert task["url"] == response["Location"]
    assert response["ETag"].startswith('W/"1-')
    assert task["name"] == "backup-db"
    assert task["project"] == "default"
    assert task["status"] == "active"
    assert task["version"] == 1
    assert task["delivery"] == "at_most_once"
    assert task["priority"] == 5
    assert task["overlap"] == "allow"
    assert task["retry"] == {
        "max_attempts": 1,
        "backoff": "exponential",
        "initial_seconds": 30,
        "max_seconds": 3600,
    }
    assert task["depends_on"] == []
    assert task["last_run"] is None
    schedule = task["schedule"]
    assert schedule["cron"] == "0 3 * * *"
    assert schedule["timezone"] == "Asia/Shanghai"
    assert schedule["interval_seconds"] is None
    assert schedule["misfire"] == "latest"
    assert schedule["description"] == "at 03:00 every day"
    assert len(schedule["next_fires"]) == 3
    assert schedule["next_fires"][0] == task["next_fire_at"]
    assert task["next_fire_at"].endswith("T19:00:00Z")
    assert schedule["warnings"] == []


def test_a_task_is_found_by_its_id_and_by_its_name(reader: APIClient) -> None:
    task = make_task(name="夜间 备份")
    for reference in (str(task.pk), "夜间 备份"):
        for slash in ("", "/"):
            response = reader.get(f"{URL}/{reference}{slash}")
            assert response.status_code == 200
            assert response.json()["id"] == task.pk


def test_digits_are_an_id_and_never_a_name(reader: APIClient) -> None:
    task = make_task()
    Task.objects.filter(pk=task.pk).update(name="123456")  # which no service does
    assert reader.get(f"{URL}/123456").status_code == 404


@pytest.mark.parametrize(
    "reference", ["nothing", "0", "99999", str(2**63), "9" * 30, "%00", "-1", "x" * 300]
)
def test_an_unknown_task_is_not_found(reader: APIClient, reference: str) -> None:
    response = reader.get(f"{URL}/{reference}")
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "not_found"


def test_a_name_in_two_projects_asks_which(reader: APIClient) -> None:
    other = Project.objects.create(name="other")
    task = make_task(name="twin")
    twin = make_task(name="twin", project=other)
    response = reader.get(f"{URL}/twin")
    assert response.status_code == 409
    assert response.json()["code"] == "ambiguous_name"
    for project, expected in (("default", task), ("other", twin)):
        found = reader.get(f"{URL}/twin?project={project}").json()
        assert found["id"] == expected.pk


def test_deleting_keeps_the_history_and_frees_the_name(admin: APIClient) -> None:
    task = make_task(name="old")
    run = end(make_run(task))
    assert admin.delete(f"{URL}/old").status_code == 204
    assert admin.get(f"{URL}/old").status_code == 404
    assert admin.delete(f"{URL}/{task.pk}").status_code == 404
    assert Task.objects.get(pk=task.pk).status == TaskStatus.DELETED
    assert admin.get(f"/api/v1/runs/{run.pk}").status_code == 200
    create(admin, name="old")


# --- what is refused -----------------------------------------------------------------

BAD = [
    ({"name": None}, "/name", "null"),
    ({"name": ""}, "/name", "blank"),
    ({"name": 5}, "/name", "not_a_string"),
    ({"name": "12"}, "/name", "numeric_name"),
    ({"name": "a/b"}, "/name", "bad_name"),
    ({"name": "a\tb"}, "/name", "bad_name"),
    ({"name": "x" * 201}, "/name", "max_length"),
    ({"project": "none"}, "/project", "does_not_exist"),
    ({"project": 1}, "/project", "invalid"),
    ({"project": {"id": 1}}, "/project", "invalid"),
    ({"executor": "telnet"}, "/executor", "unknown_executor"),
    ({"payload": []}, "/payload", "not_a_dict"),
    ({"queue": ""}, "/queue", "blank"),
    ({"queue": "q" * 101}, "/queue", "max_length"),
    ({"timeout_seconds": 0}, "/timeout_seconds", "min_value"),
    ({"timeout_seconds": 10**18}, "/timeout_seconds", "max_value"),
    ({"timeout_seconds": "60"}, "/timeout_seconds", "invalid"),
    ({"timeout_seconds": 1.5}, "/timeout_seconds", "invalid"),
    ({"timeout_seconds": True}, "/timeout_seconds", "invalid"),
    ({"start_deadline_seconds": 2**31}, "/start_deadline_seconds", "max_value"),
    ({"delivery": "exactly_once"}, "/delivery", "invalid_choice"),
    ({"retry": {"max_attempts": 21}}, "/retry/max_attempts", "max_value"),
    ({"retry": {"max_attempts": 0}}, "/retry/max_attempts", "min_value"),
    ({"retry": {"tries": 2}}, "/retry/tries", "unknown_field"),
    (
        {"retry": {"max_attempts": 2}, "delivery": "at_most_once"},
        "/retry/max_attempts",
        "retries_need_at_least_once",
    ),
    ({"comand": "x"}, "/comand", "unknown_field"),
    ({"id": 5}, "/id", "unknown_field"),
    ({"status": "paused"}, "/status", "unknown_field"),
    ({"next_fire_at": None}, "/next_fire_at", "unknown_field"),
    ({"schedule": {"crom": "* * * * *"}}, "/schedule/crom", "unknown_field"),
    ({"schedule": {}}, "/schedule", "one_kind_of_schedule"),
    ({"schedule": "0 3 * * *"}, "/schedule", "invalid"),
    (
        {"schedule": {"cron": "0 3 * * *", "interval_seconds": 60}},
        "/schedule",
        "one_kind_of_schedule",
    ),
    (
        {"schedule": {"cron": "0 3 * * *", "timezone": "Mars/Base"}},
        "/schedule/timezone",
        "unknown_timezone",
    ),
    (
        {"schedule": {"cron": "0 3 * * *", "timezone": "A" * 5000}},
        "/schedule/timezone",
        "unknown_timezone",
    ),
    (
        {"schedule": {"at": "2030-01-01T00:00:00"}},
        "/schedule/at",
        "naive_datetime",
    ),
    ({"schedule": {"at": "0001-01-01T00:00:00+14:00"}}, "/schedule/at", "out_of_range"),
    ({"schedule": {"at": "9999-12-31T23:59:59-14:00"}}, "/schedule/at", "out_of_range"),
    ({"schedule": {"at": "9999-99-99"}}, "/schedule/at", "invalid"),
    (
        {
            "schedule": {
                "at": "2030-01-01T00:00:00Z",
                "end_at": "2031-01-01T00:00:00Z",
            }
        },
        "/schedule/end_at",
        "not_with_at",
    ),
    (
        {
            "schedule": {
                "cron": "0 3 * * *",
                "start_at": "2031-01-01T00:00:00Z",
                "end_at": "2030-01-01T00:00:00Z",
            }
        },
        "/schedule/end_at",
        "end_before_start",
    ),
    ({"schedule": {"interval_seconds": 0}}, "/schedule/interval_seconds", "min_value"),
    ({"schedule": {"interval_seconds": -1}}, "/schedule/interval_seconds", "min_value"),
    (
        {"schedule": {"interval_seconds": 0.001}},
        "/schedule/interval_seconds",
        "invalid",
    ),
    (
        {"schedule": {"interval_seconds": 10**18}},
        "/schedule/interval_seconds",
        "max_value",
    ),
    ({"depends_on": [{"task": "none"}]}, "/depends_on/0/task", "unknown_task"),
    ({"depends_on": [{"task": 10**18}]}, "/depends_on/0/task", "unknown_task"),
    ({"depends_on": [{"task": -1}]}, "/depends_on/0/task", "invalid"),
    ({"depends_on": [{"task": 1e300}]}, "/depends_on/0/task", "invalid"),
    ({"timeout_seconds": 1e300}, "/timeout_seconds", "max_value"),
    ({"depends_on": [{"task": None}]}, "/depends_on/0/task", "null"),
    ({"depends_on": [{}]}, "/depends_on/0/task", "required"),
    ({"depends_on": {"task": 1}}, "/depends_on", "not_a_list"),
    ({"priority": 10}, "/priority", "max_value"),
    ({"priority": -1}, "/priority", "min_value"),
    ({"priority": "5"}, "/priority", "invalid"),
    ({"overlap": "cancel"}, "/overlap", "invalid_choice"),
    ({"max_concurrency": 0}, "/max_concurrency", "min_value"),
    (
        {"overlap": "allow", "max_concurrency": 2},
        "/max_concurrency",
        "overlap_is_allow",
    ),
    ({"max_queued": 0}, "/max_queued", "min_value"),
    ({"rate_limit": {"runs": 1}}, "/rate_limit/per_seconds", "required"),
    (
        {"rate_limit": {"runs": 0, "per_seconds": 1}},
        "/rate_limit/runs",
        "min_value",
    ),
    (
        {"rate_limit": {"runs": 1, "per_seconds": 86_401}},
        "/rate_limit/per_seconds",
        "max_value",
    ),
    ({"rate_limit": "10/m"}, "/rate_limit", "invalid"),
    (
        {"schedule": {"cron": "@daily", "jitter_seconds": -1}},
        "/schedule/jitter_seconds",
        "min_value",
    ),
    ({"calendars": ["none"]}, "/calendars/0", "unknown_calendar"),
    ({"calendars": [5]}, "/calendars/0", "not_a_string"),
    ({"calendars": "none"}, "/calendars", "not_a_list"),
    ({"trigger_rule": "none_failed"}, "/trigger_rule", "invalid_choice"),
    ({"placement": "worker"}, "/worker_name", "required"),
    ({"worker_name": "w"}, "/worker_name", "not_with_placement"),
    (
        {"placement": "worker", "worker_name": "w", "match": "gpu"},
        "/match",
        "not_with_placement",
    ),
    (
        {"placement": "broadcast", "max_concurrency": 1},
        "/max_concurrency",
        "not_with_broadcast",
    ),
    ({"match": "gpu cpu"}, "/match", "no_operator"),
    ({"match": "x" * 501}, "/match", "max_length"),
    ({"pause_after_failures": 0}, "/pause_after_failures", "min_value"),
    ({"retention_days": 36501}, "/retention_days", "max_value"),
    ({"target": "x:80"}, "/target", "unknown_field"),
]


@pytest.mark.parametrize(("values", "pointer", "code"), BAD)
def test_create_refuses(
    admin: APIClient, values: dict[str, Any], pointer: str, code: str
) -> None:
    response = admin.post(URL, {**SHELL, **values})
    assert response.status_code == 400, response.content
    assert codes(response).get(pointer) == code, response.content
    assert Task.objects.count() == 0


CRONS = [
    "",
    "* * * *",
    "* * * * * *",
    "61 * * * *",
    "*/0 * * * *",
    "0 0 30 2 *",
    "0 0 31 4 *",
    "R R * * *",
    "H H * * *",
    "@reboot",
    "5-1 * * * *",
    "-1 * * * *",
    "٣ * * * *",
    "1e1 * * * *",
    "0\t3 * * *\n\n0",
    "," * 20_000,
]


@pytest.mark.parametrize("cron", CRONS)
def test_create_refuses_a_cron(admin: APIClient, cron: str) -> None:
    response = admin.post(URL, {**SHELL, "schedule": {"cron": cron}})
    assert response.status_code == 400
    assert list(codes(response)) == ["/schedule/cron"]


def test_a_whole_number_may_have_a_point(admin: APIClient) -> None:
    task = create(admin, timeout_seconds=60.0)
    assert task["timeout_seconds"] == 60


def test_a_leap_day_is_a_schedule(admin: APIClient) -> None:
    create(admin, schedule={"cron": "0 0 29 2 *"})


def test_every_wrong_field_is_named_at_once(admin: APIClient) -> None:
    response = admin.post(URL, {"name": "", "timeout_seconds": 0, "x": 1})
    body = response.json()
    assert set(codes(response)) == {"/name", "/executor", "/timeout_seconds", "/x"}
    assert body["type"] == "/problems/validation-error"
    assert body["title"] == "Bad Request"
    assert body["status"] == 400
    assert body["detail"] == "4 fields are invalid."
    assert body["instance"] == URL
    assert body["request_id"] == response["X-Request-Id"]


def test_a_taken_name_is_refused(admin: APIClient) -> None:
    create(admin)
    response = admin.post(URL, SHELL)
    assert response.status_code == 400
    assert codes(response) == {"/name": "name_taken"}


# --- changing ------------------------------------------------------------------------


def test_patch_merges_into_the_task_its_schedule_and_its_retry(
    admin: APIClient,
) -> None:
    created = create(
        admin,
        **{**NIGHTLY, "retry": {"max_attempts": 3, "initial_seconds": 5}},
        timeout_seconds=60,
    )
    response = admin.patch(
        f"{URL}/backup-db",
        {"schedule": {"cron": "0 4 * * *"}, "retry": {"max_seconds": 50}},
    )
    changed = response.json()
    assert response.status_code == 200, changed
    assert changed["schedule"]["cron"] == "0 4 * * *"
    assert changed["schedule"]["timezone"] == "Asia/Shanghai"
    assert changed["retry"] == {**created["retry"], "max_seconds": 50}
    assert changed["delivery"] == "at_least_once"
    assert changed["timeout_seconds"] == 60
    assert changed["version"] == 2


def test_patching_one_field_leaves_delivery_alone(admin: APIClient) -> None:
    create(admin, delivery="at_least_once")
    changed = admin.patch(f"{URL}/backup-db", {"description": "x"}).json()
    assert changed["delivery"] == "at_least_once"
    assert changed["version"] == 1


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"cron": "0 3 * * *"}, {"interval_seconds": 60}, {"cron": None}),
        ({"interval_seconds": 60}, {"cron": "0 3 * * *"}, {"start_at": None}),
        ({"interval_seconds": 60}, {"interval_seconds": 90}, {"interval_seconds": 90}),
        ({"cron": "0 3 * * *"}, {"misfire": "all"}, {"misfire": "all"}),
        (
            {"cron": "0 3 * * *"},
            {"timezone": "Europe/Kyiv"},
            {"timezone": "Europe/Kyiv", "cron": "0 3 * * *"},
        ),
        (
            {"cron": "0 3 * * *", "start_at": "2020-01-01T00:00:00Z"},
            {"end_at": "2100-01-01T00:00:00Z"},
            {"start_at": "2020-01-01T00:00:00Z", "end_at": "2100-01-01T00:00:00Z"},
        ),
    ],
)
def test_patch_merges_a_schedule(
    admin: APIClient, before: Any, patch: Any, after: dict[str, Any]
) -> None:
    create(admin, schedule=before)
    response = admin.patch(f"{URL}/backup-db", {"schedule": patch})
    assert response.status_code == 200, response.content
    schedule = response.json()["schedule"]
    assert {name: schedule[name] for name in after} == after


def test_patch_with_null_ends_the_schedule(admin: APIClient) -> None:
    create(admin, **NIGHTLY)
    changed = admin.patch(f"{URL}/backup-db", {"schedule": None}).json()
    assert changed["schedule"] is None
    assert changed["next_fire_at"] is None


@pytest.mark.parametrize(
    ("patch", "pointer", "code"),
    [
        (
            {"schedule": {"timezone": "Mars/Base"}},
            "/schedule/timezone",
            "unknown_timezone",
        ),
        ({"schedule": {"cron": None}}, "/schedule", "one_kind_of_schedule"),
        ({"schedule": {"cron": "61 * * * *"}}, "/schedule/cron", None),
        ({"timeout": 5}, "/timeout", "unknown_field"),
        ({"version": 5}, "/version", "unknown_field"),
    ],
)
def test_patch_refuses(
    admin: APIClient, patch: Any, pointer: str, code: str | None
) -> None:
    before = create(admin, **NIGHTLY)
    response = admin.patch(f"{URL}/backup-db", patch)
    assert response.status_code == 400
    assert pointer in codes(response)
    assert code is None or codes(response)[pointer] == code
    assert admin.get(f"{URL}/backup-db").json() == before


def test_put_replaces_and_what_is_left_out_goes_back_to_its_default(
    admin: APIClient,
) -> None:
    other = Project.objects.create(name="other")
    make_task(
        name="x", project=other, cron="0 3 * * *", timeout_seconds=5, description="d"
    )
    response = admin.put(f"{URL}/x", {**SHELL, "name": "y"})
    task = response.json()
    assert response.status_code == 200, task
    assert task["name"] == "y"
    assert task["project"] == "other"
    assert task["schedule"] is None
    assert task["timeout_seconds"] == 3600
    assert task["description"] == ""


def test_putting_the_same_twice_changes_nothing(admin: APIClient) -> None:
    body = {**SHELL, "schedule": {"interval_seconds": 3600}}
    first = admin.post(URL, body).json()
    again = admin.put(f"{URL}/backup-db", body).json()
    assert again["version"] == 1
    assert again["schedule"]["start_at"] == first["schedule"]["start_at"]


def test_dependencies_are_named_by_id_or_by_name(admin: APIClient) -> None:
    first, second = make_task(name="first"), make_task(name="second")
    task = create(
        admin,
        depends_on=[{"task": first.pk}, {"task": "second"}],
        trigger_rule="all_done",
    )
    assert task["depends_on"] == [
        {"task": {"id": first.pk, "name": "first"}},
        {"task": {"id": second.pk, "name": "second"}},
    ]
    assert task["trigger_rule"] == "all_done"
    response = admin.patch(f"{URL}/first", {"depends_on": [{"task": "backup-db"}]})
    assert codes(response) == {"/depends_on/0/task": "cycle"}
    assert admin.patch(f"{URL}/backup-db", {"depends_on": []}).json()["version"] == 1


POLICIES = {
    "priority": 9,
    "overlap": "skip",
    "max_concurrency": 2,
    "max_queued": 50,
    "rate_limit": {"runs": 10, "per_seconds": 3600},
    "calendars": ["nights"],
    "trigger_rule": "any_success",
    "placement": "least_loaded",
    "worker_name": "",
    "match": "gpu and not spot",
    "pause_after_failures": 5,
    "retention_days": 0,
}


def test_policies_go_in_as_they_come_out(admin: APIClient) -> None:
    Calendar.objects.create(name="nights")
    task = create(
        admin,
        **POLICIES,
        schedule={"cron": "0 3 * * *", "jitter_seconds": 300},
    )
    assert {name: task[name] for name in POLICIES} == POLICIES
    assert task["schedule"]["jitter_seconds"] == 300
    again = {**SHELL, **{name: task[name] for name in POLICIES}}
    schedule = {"cron": "0 3 * * *", "jitter_seconds": 300}
    assert admin.put(f"{URL}/backup-db", {**again, "schedule": schedule}).json()[
        "version"
    ] == (1)


def test_a_task_without_policies_has_the_defaults(admin: APIClient) -> None:
    Calendar.objects.create(name="nights")
    create(admin, **POLICIES)
    task = admin.put(f"{URL}/backup-db", SHELL).json()
    assert {name: task[name] for name in POLICIES} == {
        "priority": 5,
        "overlap": "allow",
        "max_concurrency": None,
        "max_queued": None,
        "rate_limit": None,
        "calendars": [],
        "trigger_rule": "all_success",
        "placement": "any",
        "worker_name": "",
        "match": "",
        "pause_after_failures": None,
        "retention_days": None,
    }
    assert task["target"] == ""


def test_putting_only_a_limit_lets_runs_wait_as_for_a_new_task(
    admin: APIClient,
) -> None:
    create(admin, overlap="skip")
    task = admin.put(f"{URL}/backup-db", {**SHELL, "max_concurrency": 3}).json()
    assert (task["overlap"], task["max_concurrency"]) == ("queue", 3)


def test_a_rate_limit_is_replaced_as_a_whole_or_ended(admin: APIClient) -> None:
    create(admin, rate_limit={"runs": 5, "per_seconds": 10})
    changed = admin.patch(
        f"{URL}/backup-db", {"rate_limit": {"runs": 7, "per_seconds": 20}}
    ).json()
    assert changed["rate_limit"] == {"runs": 7, "per_seconds": 20}
    response = admin.patch(f"{URL}/backup-db", {"rate_limit": {"runs": 7}})
    assert codes(response) == {"/rate_limit/per_seconds": "required"}
    ended = admin.patch(f"{URL}/backup-db", {"rate_limit": None}).json()
    assert ended["rate_limit"] is None


def test_an_http_task_tells_its_target(admin: APIClient) -> None:
    task = create(admin, executor="http", command="https://Shop.example/x")
    assert task["target"] == "shop.example:443"


def test_a_version_tells_the_policies(admin: APIClient) -> None:
    Calendar.objects.create(name="nights")
    create(admin, **POLICIES, schedule={"cron": "0 3 * * *", "jitter_seconds": 300})
    (version,) = admin.get(f"{URL}/backup-db/versions").json()["results"]
    definition = version["definition"]
    assert definition["rate_limit"] == {"runs": 10, "per_seconds": 3600}
    assert definition["schedule"]["jitter_seconds"] == 300
    assert definition["match"] == "gpu and not spot"


def test_a_version_of_before_the_policies_can_be_read(admin: APIClient) -> None:
    create(admin, **NIGHTLY)
    version = TaskVersion.objects.get()
    for name in ("jitter_seconds", "rate_limit_runs", "rate_limit_seconds", "overlap"):
        del version.definition[name]
    version.save()
    (shown,) = admin.get(f"{URL}/backup-db/versions").json()["results"]
    assert shown["definition"]["rate_limit"] is None
    assert shown["definition"]["schedule"]["misfire"] == "latest"


# --- pause and resume ----------------------------------------------------------------


def test_pause_and_resume(admin: APIClient) -> None:
    create(admin, **NIGHTLY)
    paused = admin.post(f"{URL}/backup-db/pause")
    assert paused.status_code == 200
    assert paused.json()["status"] == "paused"
    assert paused.json()["next_fire_at"] is None
    assert paused.json()["schedule"]["next_fires"] == []
    resumed = admin.post(f"{URL}/backup-db/resume/").json()
    assert resumed["status"] == "active"
    assert resumed["next_fire_at"]
    assert resumed["missed"] == 0
    assert admin.post(f"{URL}/backup-db/pause", {"why": 1}).status_code == 400
    response = admin.post(f"{URL}/backup-db/resume", {"dry": True})
    assert codes(response) == {"/dry": "unknown_field"}
    response = admin.post(f"{URL}/backup-db/resume", {"dry_run": "yes"})
    assert codes(response) == {"/dry_run": "invalid"}


def test_a_resume_can_be_looked_at_first(admin: APIClient) -> None:
    task = make_task(name="x", cron="0 * * * *", misfire="latest")
    admin.post(f"{URL}/x/pause")
    backdate(task, 4 * 3600)

    outlook = admin.post(f"{URL}/x/resume", {"dry_run": True}).json()
    assert set(outlook) == {"missed", "will_run", "will_skip", "next_fire_at"}
    assert (outlook["missed"], outlook["will_run"], outlook["will_skip"]) == (4, 1, 3)
    assert admin.get(f"{URL}/x").json()["status"] == "paused"
    assert TaskRun.objects.count() == 0

    resumed = admin.post(f"{URL}/x/resume").json()
    assert resumed["status"] == "active"
    assert {name: resumed[name] for name in outlook} == outlook
    assert TaskRun.objects.filter(status="skipped").count() == 3
    assert admin.post(f"{URL}/x/resume").json()["missed"] == 0


def test_a_task_that_paused_itself_says_why(admin: APIClient) -> None:
    create(admin, pause_after_failures=1)
    end(make_run(Task.objects.get()), "failed")
    task = admin.get(f"{URL}/backup-db").json()
    assert (task["status"], task["status_reason"]) == (
        "paused",
        "its last 1 runs failed",
    )
    assert admin.post(f"{URL}/backup-db/resume").json()["status_reason"] == ""


# --- entity tags ---------------------------------------------------------------------


def test_if_none_match_saves_the_answer(admin: APIClient) -> None:
    create(admin)
    tag = admin.get(f"{URL}/backup-db")["ETag"]
    for value in (tag, f'"other", {tag}', "*"):
        response = admin.get(f"{URL}/backup-db", headers={"If-None-Match": value})
        assert response.status_code == 304
        assert response["ETag"] == tag
        assert response.content == b""
    make_run(Task.objects.get())
    response = admin.get(f"{URL}/backup-db", headers={"If-None-Match": tag})
    assert response.status_code == 200


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_if_match_guards_a_change(admin: APIClient, method: str) -> None:
    create(admin)
    old = admin.get(f"{URL}/backup-db")["ETag"]
    admin.patch(f"{URL}/backup-db", {"description": "changed"})
    call = getattr(admin, method)
    response = call(f"{URL}/backup-db", SHELL, headers={"If-Match": old})
    assert response.status_code == 412
    assert response.json()["code"] == "version_mismatch"
    make_run(Task.objects.get())  # which changes no definition
    new = admin.get(f"{URL}/backup-db")["ETag"]
    response = call(f"{URL}/backup-db", SHELL, headers={"If-Match": new})
    assert response.status_code in {200, 204}


@pytest.mark.parametrize(
    ("value", "status"),
    [('W/"1"', 200), ("*", 200), ('W/"2"', 412), ("nonsense", 412), ('""', 412)],
)
def test_if_match_takes_a_bare_version(
    admin: APIClient, value: str, status: int
) -> None:
    create(admin)
    response = admin.patch(
        f"{URL}/backup-db", {"description": "x"}, headers={"If-Match": value}
    )
    assert response.status_code == status


# --- lists ---------------------------------------------------------------------------


def names(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [task["name"] for task in response.json()["results"]]


def test_the_list_is_paged_and_counted(reader: APIClient) -> None:
    for name in "abcde":
        make_task(name=name)
    first = reader.get(URL, {"limit": 2})
    assert names(first) == ["a", "b"]
    assert first.json()["count"] == 5
    assert first.json()["previous"] is None
    assert first["Link"] == f'<{first.json()["next"]}>; rel="next"'
    second = reader.get(first.json()["next"])
    assert names(second) == ["c", "d"]
    last = reader.get(second.json()["next"])
    assert names(last) == ["e"]
    assert last.json()["next"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "active"}, ["back_up", "report"]),
        ({"status": "paused"}, ["idle"]),
        ({"project": "other"}, ["report"]),
        ({"project": "none"}, []),
        ({"executor": "http"}, ["idle"]),
        ({"queue": "slow"}, ["report"]),
        ({"q": "K_U"}, ["back_up"]),
        ({"q": "%"}, []),
        ({"next_fire_before": "2190-01-01T00:00:00Z"}, ["back_up"]),
        ({"next_fire_before": "1990-01-01T00:00:00Z"}, []),
        ({"ordering": "-name"}, ["report", "idle", "back_up"]),
        ({"ordering": "-created_at,name"}, ["idle", "report", "back_up"]),
    ],
)
def test_the_list_is_filtered_and_ordered(
    reader: APIClient, query: dict[str, str], expected: list[str]
) -> None:
    other = Project.objects.create(name="other")
    make_task(name="back_up", cron="0 3 * * *")
    make_task(name="report", project=other, queue="slow")
    idle = make_task(
        name="idle", executor="http", command="http://example.com", cron="0 3 * * *"
    )
    Task.objects.filter(pk=idle.pk).update(status=TaskStatus.PAUSED)
    make_task(name="gone", status=TaskStatus.DELETED)
    assert names(reader.get(URL, query)) == expected


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=1000000000", "limit"),
        ("limit=x", "limit"),
        ("page_size=5", "page_size"),
        ("offset=9223372036854775808", "offset"),
        ("created_after=9999-99-99", "created_after"),
        ("next_fire_before=9999-99-99", "next_fire_before"),
        ("next_fire_before=0001-01-01T00:00:00%2B14:00", "next_fire_before"),
        ("next_fire_before=2030-01-01T00:00:00", "next_fire_before"),
        ("status=broken", "status"),
        ("status=deleted", "status"),
        ("ordering=owner__password", "ordering"),
        ("project__name=x", "project__name"),
        ("q=%00", "q"),
        ("fields=id", "fields"),
    ],
)
def test_the_list_refuses_a_query(
    reader: APIClient, query: str, parameter: str
) -> None:
    response = reader.get(f"{URL}?{query}")
    assert response.status_code == 400, response.content
    assert [error["parameter"] for error in response.json()["errors"]] == [parameter]


@pytest.mark.parametrize("page", ["0", "-1", "2", "x", "9" * 40])
def test_a_page_that_is_not_there_is_not_found(reader: APIClient, page: str) -> None:
    make_task()
    assert reader.get(URL, {"page": page}).status_code == 404


def test_the_list_costs_the_same_for_any_number_of_tasks(
    admin: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    parent = make_task()
    for minute in range(8):
        end(make_run(make_task(parent, cron=f"{minute} 3 * * *")))
    # count, tasks, dependencies, calendars, numbers of last runs, last runs
    with django_assert_num_queries(6):
        body = admin.get(URL).json()
    assert body["results"][-1]["last_run"]["status"] == "succeeded"


def test_last_run_is_the_newest(reader: APIClient) -> None:
    task = make_task(name="x")
    end(make_run(task))
    newest = make_run(task)
    last = reader.get(f"{URL}/x").json()["last_run"]
    assert last["id"] == newest.pk
    assert last["status"] == "queued"


# --- below a task --------------------------------------------------------------------


def test_next_fires(reader: APIClient) -> None:
    make_task(name="x", cron="0 3 * * *", timezone="Asia/Shanghai")
    body = reader.get(
        f"{URL}/x/next-fires",
        {"count": "2", "from": "2026-01-01T00:00:00Z", "tz": "Asia/Shanghai"},
    ).json()
    assert body == {
        "description": "at 03:00 every day",
        "timezone": "Asia/Shanghai",
        "fires": ["2026-01-02T03:00:00+08:00", "2026-01-03T03:00:00+08:00"],
    }
    assert len(reader.get(f"{URL}/x/next-fires").json()["fires"]) == 10


@pytest.mark.parametrize(
    "query",
    ["count=0", "count=101", "count=x", "from=yesterday", "tz=Europe", "until=5"],
)
def test_next_fires_refuses(reader: APIClient, query: str) -> None:
    make_task(name="x", cron="0 3 * * *")
    response = reader.get(f"{URL}/x/next-fires?{query}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == query.partition("=")[0]


def test_versions_tell_who_changed_what(admin: APIClient) -> None:
    create(admin, **NIGHTLY)
    admin.patch(f"{URL}/backup-db", {"timeout_seconds": 5})
    newest, oldest = admin.get(f"{URL}/backup-db/versions").json()["results"]
    assert (newest["number"], oldest["number"]) == (2, 1)
    assert newest["created_by"] == "admin"
    assert newest["definition"]["timeout_seconds"] == 5
    assert oldest["definition"]["timeout_seconds"] == 3600
    assert oldest["definition"]["schedule"]["cron"] == "0 3 * * *"
    assert oldest["definition"]["schedule"]["timezone"] == "Asia/Shanghai"
    assert oldest["definition"]["retry"]["max_attempts"] == 1


def test_preview_describes_and_warns(reader: APIClient) -> None:
    response = reader.post(
        "/api/v1/schedules/preview",
        {"cron": "0 0 31 * *", "timezone": "Europe/Kyiv", "count": 2},
    )
    body = response.json()
    assert response.status_code == 200, body
    assert len(body["fires"]) == 2
    assert body["fires"][0].endswith("Z")
    assert body["description"]
    assert body["warnings"]


def test_a_preview_of_the_past_has_no_fires_and_says_so(reader: APIClient) -> None:
    past = (timezone.now() - timedelta(days=1)).isoformat()
    body = reader.post("/api/v1/schedules/preview", {"at": past}).json()
    assert body["fires"] == []
    assert "no_fires_left" in [warning["code"] for warning in body["warnings"]]


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"cron": "61 * * * *"}, "/cron"),
        ({"interval_seconds": 10**18}, "/interval_seconds"),
        ({"timezone": "Europe"}, "/timezone"),
        ({"at": "2026-03-29T03:30:00"}, "/at"),
        ({"cron": "* * * * *", "count": 101}, "/count"),
        ({"cron": "* * * * *", "tz": "UTC"}, "/tz"),
        ({}, ""),
    ],
)
def test_preview_refuses(reader: APIClient, values: Any, pointer: str) -> None:
    response = reader.post("/api/v1/schedules/preview", values)
    assert response.status_code == 400
    assert list(codes(response)) == [pointer]


def test_nothing_of_a_refused_change_stays(admin: APIClient) -> None:
    create(admin)
    response = admin.patch(
        f"{URL}/backup-db", {"description": "new", "depends_on": [{"task": 999}]}
    )
    assert response.status_code == 400
    assert admin.get(f"{URL}/backup-db").json()["description"] == ""
    assert TaskRun.objects.count() == 0
