"""Pages: by number for small sets, by cursor for runs, which nobody counts."""

from __future__ import annotations

import re
from typing import Any

from rest_framework.exceptions import ErrorDetail
from rest_framework.pagination import BasePagination, PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from tasks_app.api.exceptions import InvalidQuery
from tasks_app.api.fields import MAX_ID
from tasks_app.paging import MAX_COUNT, BoundedPaginator
from tasks_app.run_history import (
    run_created_at,
    runs_by_id,
    search_down,
    search_up,
)

DEFAULT_LIMIT = 50
MAX_LIMIT = 500

_LIMIT_PARAMETER = {
    "name": "limit",
    "in": "query",
    "description": "How many results to answer with.",
    "schema": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_LIMIT,
        "default": DEFAULT_LIMIT,
    },
}


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    message = f"A whole number, 1 to {MAX_LIMIT}."
    raise InvalidQuery({"limit": [ErrorDetail(message, "out_of_range")]})


def _response(
    results: Any, following: str | None, previous: str | None, **more: Any
) -> Response:
    response = Response(
        {**more, "next": following, "previous": previous, "results": results}
    )
    links = {"next": following, "prev": previous}
    if given := [f'<{url}>; rel="{rel}"' for rel, url in links.items() if url]:
        response["Link"] = ", ".join(given)
    return response


def _schema(results: dict[str, Any], **more: Any) -> dict[str, Any]:
    url = {"type": "string", "nullable": True, "format": "uri"}
    properties = {**more, "next": url, "previous": url, "results": results}
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
    }


class Pages(PageNumberPagination):
    """?page= and ?limit=, with the count as far as it is counted."""

    django_paginator_class = BoundedPaginator
    query_names = ("page", "limit")

    def get_page_size(self, request: Request) -> int:
        return _limit(request)

    def get_paginated_response(self, data: Any) -> Response:
        assert self.page is not None  # noqa: S101 - set by paginate_queryset
        paginator: Any = self.page.paginator
        return _response(
            data,
            self.get_next_link(),
            self.get_previous_link(),
            count=paginator.count,
            count_is_exact=paginator.is_exact,
        )

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        count = {
            "type": "integer",
            "description": f"How many there are; counted up to {MAX_COUNT}.",
        }
        is_exact = {
            "type": "boolean",
            "description": "False if there are more than `count`.",
        }
        return _schema(schema, count=count, count_is_exact=is_exact)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "page",
                "in": "query",
                "description": "The number of the page, from 1.",
                "schema": {"type": "integer", "minimum": 1, "default": 1},
            },
            _LIMIT_PARAMETER,
        ]


class NewestFirst(BasePagination):
    """?cursor= and ?limit= over what a `RunSearch` finds, newest first. A page looks at
    so many runs and no more, stays put while runs are added, and nobody counts."""

    query_names = ("cursor", "limit")

    def paginate_queryset(
        self, queryset: Any, request: Request, view: Any = None
    ) -> list[Any]:
        """The runs that a search finds, as `runs_shown` gives them."""
        self.url = request.build_absolute_uri()
        limit = _limit(request)
        is_before, boundary = _cursor(request)
        if is_before:
            found = search_down(queryset, before=boundary, limit=limit + 1)
        else:
            found = search_up(queryset, after=boundary, limit=limit + 1)
        ids = found.run_ids[:limit]
        self.is_history_away = found.is_history_away
        self.searched_to = None
        # Whoever came by a link has what it led away from on the other side.
        came_by_link = "cursor" in request.query_params
        onward = ids[-1] if len(found.run_ids) > limit else found.edge
        back = ids[0] if ids else boundary + (-1 if is_before else 1)
        self.older = onward if is_before else (back if came_by_link else None)
        self.newer = (back if came_by_link else None) if is_before else onward
        if len(found.run_ids) <= limit and found.edge is not None:
            self.searched_to = run_created_at(found.edge)
        rows = runs_by_id(ids)
        return rows if is_before else rows[::-1]

    def get_paginated_response(self, data: Any) -> Response:
        older = None if self.older is None else self._link(f"b{self.older}")
        newer = None if self.newer is None else self._link(f"a{self.newer}")
        return _response(
            data,
            older,
            newer,
            searched_to=self.searched_to,
            history_unreachable=self.is_history_away,
        )

    def _link(self, cursor: str) -> str:
        return replace_query_param(self.url, "cursor", cursor)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        searched_to = {
            "type": "string",
            "format": "date-time",
            "nullable": True,
            "description": (
                "Set on a page that is short because few of the runs that it looked at"
                " match: it has come down to runs of this time, and `next` goes on."
            ),
        }
        history_unreachable = {
            "type": "boolean",
            "description": (
                "The history database does not answer: archived runs, which belong on"
                " this page, are missing from it."
            ),
        }
        return _schema(
            schema, searched_to=searched_to, history_unreachable=history_unreachable
        )

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "cursor",
                "in": "query",
                "description": "Where to go on, as `next` and `previous` give it.",
                "schema": {"type": "string", "pattern": "^[ab][0-9]{1,19}$"},
            },
            _LIMIT_PARAMETER,
        ]


def _cursor(request: Request) -> tuple[bool, int]:
    """Whether to go on before (older than) an id, and that id."""
    text = request.query_params.get("cursor")
    if text is None:
        return True, MAX_ID
    if re.fullmatch("[ab][0-9]{1,19}", text) and int(text[1:]) <= MAX_ID:
        return text[0] == "b", int(text[1:])
    message = "Not a cursor: take it from `next` or `previous`."
    raise InvalidQuery({"cursor": [ErrorDetail(message, "invalid_cursor")]})
