"""`manage.py ledger_verify`: its exit codes, its table, its JSON."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from tasks_app import ledger
from tasks_app.management.commands import ledger_verify
from tasks_app.models import RunEvent, TaskRun
from tests.factories import end, make_run, make_task


def verify(*argv: str) -> tuple[int, str]:
    output = StringIO()
    try:
        call_command("ledger_verify", *argv, stdout=output)
    except SystemExit as ended:
        return int(str(ended.code)), output.getvalue()
    return 0, output.getvalue()


def second_outcome() -> TaskRun:
    run = end(make_run(make_task(name="nightly [copy]")))
    RunEvent.objects.create(
        run=run, kind="finished", attempt=1, status="failed", at=ledger.database_now()
    )
    return run


@pytest.mark.django_db
class TestLedgerVerify:
    def test_an_honest_ledger_is_code_0_and_says_what_was_checked(self) -> None:
        end(make_run())
        code, text = verify()
        assert code == 0
        assert "1 tasks, 0 fires, 1 runs, 3 events" in text
        assert "Findings: none." in text

    def test_a_finding_is_code_1_and_says_what_it_means(self) -> None:
        run = second_outcome()
        code, text = verify()
        assert code == 1
        assert "nightly [copy]" in text
        assert str(run.pk) in text
        assert "1 x two_outcomes (C5): a run that ended more than once." in text

    def test_json_is_for_programs(self) -> None:
        run = second_outcome()
        code, text = verify("--json")
        document = json.loads(text)
        assert code == 1
        assert document["counts"] == {"two_outcomes": 1}
        assert document["checked"]["runs"] == 1
        (found,) = document["findings"]
        assert (found["promise"], found["kind"]) == ("C5", "two_outcomes")
        assert found["run_id"] == run.pk

    def test_a_window_may_be_told_in_times_or_by_age(self) -> None:
        second_outcome()
        assert verify("--since", "1h")[0] == 1
        assert verify("--until", "1h")[0] == 0
        assert verify("--since", "2020-01-01", "--until", "2020-01-02T00:00Z")[0] == 0

    @pytest.mark.parametrize(
        "argv",
        [
            ["--since", "yesterday"],
            ["--since", "2020-01-02", "--until", "2020-01-01"],
            ["--since", "9999999d"],
        ],
    )
    def test_a_bad_window_is_code_2(self, argv: list[str]) -> None:
        command = ledger_verify.Command()
        command.stderr.write = lambda *_: None  # type: ignore[method-assign]
        with pytest.raises(SystemExit) as ended:
            command.run_from_argv(["manage.py", "ledger_verify", *argv])
        assert ended.value.code == 2

    def test_a_database_that_is_away_is_no_clean_bill(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object) -> None:
            raise DatabaseError("away")

        monkeypatch.setattr(ledger_verify, "Verifier", away)
        with pytest.raises(CommandError) as error:
            verify()
        assert error.value.returncode == 2
