"""Hooks that finish the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def without_trailing_slash(endpoints: list[Any], **_: Any) -> list[Any]:
    """The routes accept a slash at the end; the document shows them without."""
    return [(path.rstrip("/"), *rest) for path, *rest in endpoints]


def closed_bodies(result: Any, **_: Any) -> Any:
    """Say of each request body what the API does: unknown fields are refused."""
    schemas = result["components"]["schemas"]
    for name in _bodies(result, schemas):
        if "properties" in schemas[name]:
            schemas[name]["additionalProperties"] = False
    return result


def _bodies(result: Any, schemas: Any) -> set[str]:
    """The names of the schemas of request bodies, and of those inside them."""
    waiting = [
        operation["requestBody"]
        for path in result["paths"].values()
        for operation in path.values()
        if "requestBody" in operation
    ]
    found: set[str] = set()
    while waiting:
        new = set(_references(waiting.pop())) - found
        found |= new
        waiting += [schemas[name] for name in new]
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield str(node["$ref"]).rpartition("/")[2]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
