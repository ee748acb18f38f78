"""Hooks that finish the OpenAPI document."""

from __future__ import annotations

from typing import Any


def without_trailing_slash(endpoints: list[Any], **_: Any) -> list[Any]:
    """The routes accept a slash at the end; the document shows them without."""
    return [(path.rstrip("/"), *rest) for path, *rest in endpoints]


def closed_bodies(result: Any, **_: Any) -> Any:
    """Say of each request body what the API does: unknown fields are refused."""
    for name, schema in result["components"]["schemas"].items():
        if schema.get("type") == "object" and name in _bodies(result):
            schema["additionalProperties"] = False
    return result


def _bodies(result: Any) -> frozenset[str]:
    return frozenset(
        name
        for name in result["components"]["schemas"]
        if name.endswith(("In", "Credentials")) or name.startswith("Patched")
    )
