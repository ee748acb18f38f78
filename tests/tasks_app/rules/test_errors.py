from __future__ import annotations

from tasks_app.rules.errors import ScheduleInvalid


def test_a_refusal_names_the_field_and_reads_as_its_message() -> None:
    error = ScheduleInvalid("minute", "out_of_range", "minute 61 is out of range 0-59")

    assert (error.field, error.code) == ("minute", "out_of_range")
    assert str(error) == error.message == "minute 61 is out of range 0-59"
