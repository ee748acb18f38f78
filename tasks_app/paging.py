"""Pages by number of lists that may be long: what is counted, and read, is bounded."""

from __future__ import annotations

from typing import Any

from django.core.paginator import EmptyPage, Page, Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

MAX_COUNT = 10_000
"""A list is counted as far as this: to count 100,000 tasks took longer than to read the
page that was asked for."""
MAX_PAGE = 10**9
"""So that no offset exceeds 64 bits."""


class BoundedPage(Page):  # type: ignore[type-arg] # not at run time
    """A page that knows whether another follows, for the count may not tell."""

    has_more = False

    def has_next(self) -> bool:
        return self.has_more


class BoundedPaginator(Paginator):  # type: ignore[type-arg] # not at run time
    """Pages of a query, or of a list.

    `count` is at most MAX_COUNT, and `is_exact` says whether there are no more; pages
    go on behind it. The rows of a page are found by their keys alone: with all that
    they show joined to each row before they are sorted, a page took ten times as long.
    """

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_COUNT)

    @property
    def is_exact(self) -> bool:
        """Whether there are no more than `count`."""
        return self._counted <= MAX_COUNT

    @cached_property
    def _counted(self) -> int:
        if not isinstance(self.object_list, QuerySet):
            return len(self.object_list)
        return self.object_list.order_by()[: MAX_COUNT + 1].count()

    def validate_number(self, number: Any) -> int:
        """The number of a page that may be there.

        Raises:
            InvalidPage: it is no number, or there is no such page.
        """
        if self.is_exact or not str(number).isdecimal():
            return super().validate_number(number)
        if not 1 <= int(number) <= MAX_PAGE:
            raise EmptyPage(_("That page contains no results"))
        return int(number)

    def page(self, number: Any) -> BoundedPage:
        number = self.validate_number(number)
        first = (number - 1) * self.per_page
        rows = self._rows(first, first + self.per_page + 1)
        if not rows and number > 1:
            raise EmptyPage(_("That page contains no results"))
        page = BoundedPage(rows[: self.per_page], number, self)
        page.has_more = len(rows) > self.per_page
        return page

    def _rows(self, first: int, end: int) -> list[Any]:
        found = self.object_list
        if not self._counted:
            return []
        if not isinstance(found, QuerySet):
            return list(found[first:end])
        keys = found.select_related(None).prefetch_related(None).values("pk")
        return list(found.filter(pk__in=keys[first:end]))
