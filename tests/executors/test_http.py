from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from executors import registry
from executors.base import OutcomeStatus
from executors.payloads import PayloadInvalid, validate_payload
from tests.executors.conftest import TargetServer
from tests.executors.harness import Output, certificate, in_loop, open_files, run, start

RUN = {
    "GNOMON_RUN_ID": "run-7",
    "GNOMON_ATTEMPT": "2",
    "GNOMON_SCHEDULED_FOR": "2026-01-01T00:00:00Z",
}


def test_an_answer_is_kept_as_result_and_log(target: TargetServer) -> None:
    output = Output()
    outcome = run("http", {"command": target.url("/ok")}, output=output)
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert outcome.exit_code is None
    result = outcome.result
    assert (result["status"], result["body"]) == (200, "all is well")
    assert result["body_truncated"] is False
    assert result["headers"]["content-type"] == "text/plain"
    line, body = output.stdout.decode().split("\n", 1)
    assert line == f"HTTP/1.1 200 OK, 11 bytes in {result['duration_ms']} ms"
    assert body == "all is well"


def test_the_target_can_recognise_the_run(target: TargetServer) -> None:
    run("http", {"command": target.url("/ok")}, environment=RUN)
    _, _, headers, _ = target.received[0]
    assert headers["Idempotency-Key"] == headers["X-Gnomon-Run-Id"] == "run-7"
    assert headers["X-Gnomon-Attempt"] == "2"
    assert headers["X-Gnomon-Scheduled-For"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://Shop.Example/health?x=1", "shop.example:443"),
        ("http://shop.example:8080", "shop.example:8080"),
        ("http://[::1]/", "[::1]:80"),
        ("http://bücher.example/", "xn--bcher-kva.example:80"),
    ],
)
def test_calls_to_one_host_and_port_have_one_target(url: str, target: str) -> None:
    assert registry.target("http", {"command": url}) == target


def test_an_executor_that_calls_nobody_has_no_target() -> None:
    assert registry.target("shell", {"command": "true"}) == ""


@pytest.mark.parametrize(
    ("extra", "content_type", "body"),
    [
        ({"body": "mönth"}, None, "mönth".encode()),
        ({"json": {"a": [1, "ü"]}}, "application/json", '{"a": [1, "ü"]}'.encode()),
        ({"json": None}, "application/json", b"null"),
        ({"json": 1, "headers": {"content-type": "a/b"}}, "a/b", b"1"),
    ],
)
def test_method_headers_and_body_are_sent(
    extra: dict[str, Any], content_type: str | None, body: bytes, target: TargetServer
) -> None:
    run("http", {"command": target.url("/ok?x=1"), "method": "POST", **extra})
    method, path, headers, received = target.received[0]
    sent = {name.lower(): value for name, value in headers.items()}
    assert (method, path, received) == ("POST", "/ok?x=1", body)
    assert sent.get("content-type") == content_type


@pytest.mark.parametrize(
    ("status", "expected", "succeeds"),
    [
        (204, None, True),
        (302, None, False),
        (404, [404], True),
        (500, [200, "400-499"], False),
        (418, [200, "400-499"], True),
        (201, ["201"], True),
    ],
)
def test_the_status_decides(
    status: int,
    expected: list[int | str] | None,
    *,
    succeeds: bool,
    target: TargetServer,
) -> None:
    payload: dict[str, Any] = {"command": target.url(f"/status/{status}")}
    if expected is not None:
        payload["expected_status"] = expected
    outcome = run("http", payload)
    assert (outcome.status is OutcomeStatus.SUCCEEDED) is succeeds
    assert outcome.result["status"] == status
    if not succeeds:
        assert outcome.reason == "unexpected_status"
        assert outcome.error.startswith(f"status {status}, expected 200")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("is well", ""), ("^all .* well$", ""), ("unwell", "body_mismatch")],
)
def test_the_body_must_match(pattern: str, reason: str, target: TargetServer) -> None:
    payload = {"command": target.url("/ok"), "body_match": pattern}
    assert run("http", payload).reason == reason


def test_redirects_are_followed_only_when_asked(target: TargetServer) -> None:
    url = target.url("/away")
    assert run("http", {"command": url}).result["headers"]["location"] == "/ok"
    outcome = run("http", {"command": url, "follow_redirects": True})
    assert outcome.result["body"] == "all is well"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/loop", "too_many_redirects"),
        ("/file", "redirect_refused"),
        ("/drop", "connection_failed"),
    ],
)
def test_a_target_that_misbehaves_is_named(
    path: str, reason: str, target: TargetServer
) -> None:
    outcome = run("http", {"command": target.url(path), "follow_redirects": True})
    assert (outcome.status, outcome.reason) == (OutcomeStatus.FAILED, reason)
    assert "127.0.0.1" in outcome.error
    assert len(target.received) <= 6


def test_a_port_without_listener_is_a_failed_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert run("http", {"command": url}).reason == "connection_failed"


def test_an_unknown_name_is_a_failed_lookup() -> None:
    outcome = run("http", {"command": "http://gnomon.invalid/"})
    assert outcome.reason == "dns_failed"
    assert "gnomon.invalid" in outcome.error


def test_a_server_without_tls_is_a_failed_handshake(target: TargetServer) -> None:
    url = target.url("/ok").replace("http:", "https:")
    assert run("http", {"command": url}).reason == "tls_failed"


def test_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["openssl", "s_server", "-key", key, "-cert", cert, "-accept",
         f"127.0.0.1:{port}", "-www"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        while b"ACCEPT" not in server.stdout.readline():
            assert server.poll() is None
        outcome = run("http", {"command": f"https://localhost:{port}/"})
    finally:
        with server:
            server.kill()
    assert outcome.reason == "tls_failed"
    assert "certificate" in outcome.error


def test_a_target_that_takes_no_connection_times_out() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        # Linux queues one more than the backlog, then leaves a SYN unanswered.
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)  # noqa: FBT003 - its only form
            client.connect_ex(address)
        payload = {
            "command": f"http://127.0.0.1:{address[1]}/",
            "connect_timeout_seconds": 0.2,
        }
        outcome = run("http", payload)
        for client in waiting:
            client.close()
    assert (outcome.status, outcome.reason) == (OutcomeStatus.FAILED, "timeout")


def test_a_long_body_is_cut_and_says_so(target: TargetServer) -> None:
    output = Output()
    payload = {"command": target.url("/long"), "max_body_bytes": 1000}
    outcome = run("http", payload, output=output)
    assert outcome.result["body"] == "x" * 1000
    assert outcome.result["body_truncated"] is True
    assert b"200 OK, more than 1000 bytes" in output.stdout


def test_a_compressed_bomb_costs_no_more_than_the_limit(target: TargetServer) -> None:
    outcome = run("http", {"command": target.url("/bomb")})
    assert len(outcome.result["body"]) == 65_536
    assert outcome.result["body_truncated"] is True


def test_a_body_that_is_no_text_can_be_stored(target: TargetServer) -> None:
    outcome = run("http", {"command": target.url("/nul")})
    assert outcome.result["body"] == "a\ufffdb\ufffd"
    assert "\\u0000" not in json.dumps(outcome.result)


def test_a_cookie_of_one_run_is_not_sent_by_another(target: TargetServer) -> None:
    async def work() -> None:
        for path in ("/cookie", "/ok"):
            await start("http", {"command": target.url(path)})

    in_loop(work())
    assert "Cookie" not in target.received[1][2]


def test_a_proxy_of_the_workers_environment_is_not_used(
    target: TargetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert run("http", {"command": target.url("/ok")}).reason == ""


def test_calls_one_after_another_share_a_connection(target: TargetServer) -> None:
    async def work() -> None:
        for _ in range(5):
            await start("http", {"command": target.url("/ok")})

    in_loop(work())
    assert len(target.received) == 5
    assert len(target.peers) == 1


def test_hundreds_of_calls_wait_at_the_same_time_and_leave_no_file_open() -> None:
    calls, arrived = 600, 0

    async def work() -> set[OutcomeStatus]:
        all_there = asyncio.Event()

        async def answer(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            nonlocal arrived
            await reader.readuntil(b"\r\n\r\n")
            arrived += 1
            if arrived == calls:
                all_there.set()
            await all_there.wait()
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2048)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server:
            tasks = [start("http", {"command": url}) for _ in range(calls)]
            return {outcome.status for outcome in await asyncio.gather(*tasks)}

    files = open_files()
    assert in_loop(work()) == {OutcomeStatus.SUCCEEDED}
    assert open_files() <= files + 1


@pytest.mark.parametrize(
    ("extra", "pointer", "words"),
    [
        ({"command": "ftp://a/"}, "/payload/command", "http://"),
        ({"command": "http://"}, "/payload/command", "host"),
        ({"command": "a.example"}, "/payload/command", "http://"),
        ({"command": "http://a b/"}, "/payload/command", "blanks"),
        ({"command": "http://a\\@b/"}, "/payload/command", "backslashes"),
        ({"command": "http://a:x/"}, "/payload/command", "must be a URL"),
        ({"command": "http://me:pw@a/"}, "/payload/command", "Authorization"),
        ({"method": "TRACE"}, "/payload/method", "one of: GET, HEAD"),
        ({"headers": {"hOst": "x"}}, "/payload/headers/hOst", "sets itself"),
        ({"headers": {"Content-Length": "1"}}, "/payload/headers/Content-Length", "s"),
        ({"headers": {"Connection": "x"}}, "/payload/headers/Connection", "itself"),
        ({"headers": {"Idempotency-Key": "x"}}, "/payload/headers/Idempotency-Key", ""),
        ({"headers": {"a b": "x"}}, "/payload/headers/a b", "X-Api-Version"),
        ({"headers": {"": "x"}}, "/payload/headers/", "header name"),
        ({"headers": {"X": "a\r\nY: b"}}, "/payload/headers/X", "one line"),
        ({"headers": {"X": "a\n"}}, "/payload/headers/X", "one line"),
        ({"headers": {"X": "ü"}}, "/payload/headers/X", "ASCII"),
        ({"headers": {"X": "a\0"}}, "/payload/headers/X", "NUL"),
        ({"headers": {"X": 1}}, "/payload/headers/X", "a string"),
        ({"headers": {f"X{i}": "" for i in range(101)}}, "/payload/headers", "100"),
        ({"body": "x", "json": 1}, "/payload", "not both"),
        ({"json": [float("inf")]}, "/payload/json/0", "finite"),
        ({"expected_status": []}, "/payload/expected_status", "at least 1"),
        ({"expected_status": [99]}, "/payload/expected_status/0", "at least 100"),
        ({"expected_status": ["2xx"]}, "/payload/expected_status/0", "200-299"),
        ({"expected_status": ["300-200"]}, "/payload/expected_status/0", "rises"),
        ({"body_match": "(a"}, "/payload/body_match", "regular expression"),
        ({"connect_timeout_seconds": 0}, "/payload/connect_timeout_seconds", "than 0"),
        ({"follow_redirects": 1}, "/payload/follow_redirects", "true or false"),
        ({"max_body_bytes": 2**21}, "/payload/max_body_bytes", "at most 1048576"),
    ],
)
def test_a_wrong_payload_names_the_field_and_what_is_allowed(
    extra: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        validate_payload("http", {"command": "http://a/", **extra})
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
    assert words in caught.value.problems[0].message


def test_cancelling_closes_the_connection(target: TargetServer) -> None:
    async def work() -> int:
        task = start("http", {"command": target.url("/slow")})
        deadline = time.monotonic() + 5
        while not target.received:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        busy = open_files()
        task.cancel()
        await task
        return busy - open_files()

    assert in_loop(work()) == 1
