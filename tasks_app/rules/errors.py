"""What the rules refuse, in a form that an API or a form can show."""

from __future__ import annotations


class ScheduleInvalid(Exception):
    """The schedule cannot be accepted.

    `field` is the part at fault: an attribute of a schedule (`timezone`, `seconds`,
    `at`, ...), one of cron's five (`minute`, `hour`, `day_of_month`, `month`,
    `day_of_week`), or `expression` for a cron text as a whole. `code` is stable,
    `message` tells a person what is wrong and what to write instead.
    """

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(field, code, message)
        self.field = field
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message
