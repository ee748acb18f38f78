"""One contract, kept by every executor."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from executors import registry
from executors.base import Executor, OutcomeStatus
from executors.payloads import PayloadInvalid, validate_payload
from executors.python import register_callable
from tests.executors.conftest import TargetServer
from tests.executors.harness import Output, eventually, in_loop, run, start

Payload = dict[str, Any]
begun, let_go = threading.Event(), threading.Event()


@register_callable("contract.greet")
def greet(name: str) -> str:
    return f"hello {name}"


@register_callable("contract.fail")
def fail() -> None:
    raise LookupError("no such report")


@register_callable("contract.wait")
def wait() -> None:
    begun.set()
    let_go.wait(20)


@pytest.fixture(autouse=True)
def _waiting_callables() -> Iterator[None]:
    begun.clear()
    let_go.clear()
    yield
    let_go.set()


@dataclass(frozen=True)
class Case:
    """The same four jobs for one executor."""

    name: str
    succeeds: Payload
    fails: Payload
    lasts: Payload
    output: bytes

    def __str__(self) -> str:
        return self.name


@pytest.fixture(params=["shell", "http", "python"])
def case(request: pytest.FixtureRequest, target: TargetServer) -> Case:
    cases = (
        Case(
            "shell",
            {"command": "echo all is well"},
            {"command": "exit 3"},
            {"command": "echo up; sleep 20"},
            b"all is well\n",
        ),
        Case(
            "http",
            {"command": target.url("/ok")},
            {"command": target.url("/status/500")},
            {"command": target.url("/slow")},
            b"all is well",
        ),
        Case(
            "python",
            {"command": "contract.greet", "kwargs": {"name": "Ada"}},
            {"command": "contract.fail"},
            {"command": "contract.wait"},
            b"",
        ),
    )
    return next(case for case in cases if case.name == request.param)


def test_a_job_that_works_succeeds_with_a_json_result(case: Case) -> None:
    outcome = run(case.name, case.succeeds)
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert (outcome.reason, outcome.error) == ("", "")
    json.dumps(outcome.result)


def test_a_job_that_fails_says_why(case: Case) -> None:
    outcome = run(case.name, case.fails)
    assert outcome.status is OutcomeStatus.FAILED
    assert outcome.reason in {"exit_code", "unexpected_status", "exception"}
    assert outcome.error
    assert outcome.error.isprintable()


def test_output_reaches_the_log(case: Case) -> None:
    output = Output()
    run(case.name, case.succeeds, output=output)
    assert case.output in output.stdout


def test_a_cancelled_job_ends_at_once_as_cancelled(
    case: Case, target: TargetServer
) -> None:
    async def work() -> None:
        output = Output()
        task = start(case.name, case.lasts, output=output)
        await eventually(lambda: output.stdout or target.received or begun.is_set())
        began = time.monotonic()
        task.cancel()
        outcome = await task
        assert (outcome.status, outcome.reason) == (
            OutcomeStatus.CANCELLED,
            "cancelled",
        )
        assert time.monotonic() - began < 2

    in_loop(work())


def test_a_job_over_its_time_ends_as_timed_out(case: Case) -> None:
    began = time.monotonic()
    outcome = run(case.name, case.lasts, timeout_seconds=0.1)
    assert (outcome.status, outcome.reason) == (OutcomeStatus.TIMED_OUT, "timeout")
    assert "0.1 s" in outcome.error
    assert time.monotonic() - began < 2


def test_a_job_cancelled_before_its_start_ends_as_cancelled(case: Case) -> None:
    async def work() -> None:
        task = start(case.name, case.lasts)
        await asyncio.sleep(0)  # the task has begun, the job not yet
        task.cancel()
        assert (await task).status is OutcomeStatus.CANCELLED

    in_loop(work())


def every_executor() -> list[Executor]:
    return [registry.get(name) for name in ("shell", "http", "python")]


@pytest.mark.parametrize("executor", every_executor(), ids=lambda e: e.name)
class TestSchema:
    def test_it_is_valid_and_closed(self, executor: Executor) -> None:
        Draft202012Validator.check_schema(executor.schema)
        assert executor.schema["additionalProperties"] is False

    def test_a_form_can_be_made_of_it(self, executor: Executor) -> None:
        assert executor.schema["title"]
        assert executor.schema["description"]
        for schema in executor.schema["properties"].values():
            assert schema["title"]
            assert schema["description"]
            assert schema["examples"]

    def test_its_examples_and_defaults_are_accepted(self, executor: Executor) -> None:
        command = executor.schema["properties"]["command"]["examples"][0]
        for field, schema in executor.schema["properties"].items():
            for value in [*schema["examples"], schema.get("default")]:
                if value is None:
                    continue
                payload = {"command": command, field: value}
                if field == "argv":
                    payload.pop("command")
                if field == "run_as":
                    payload["isolation"] = "uid"
                validate_payload(executor.name, payload)

    def test_an_unknown_field_is_refused(self, executor: Executor) -> None:
        command = executor.schema["properties"]["command"]["examples"][0]
        with pytest.raises(PayloadInvalid) as caught:
            validate_payload(executor.name, {"command": command, "comand": "x"})
        assert caught.value.problems[0].pointer == "/payload/comand"
