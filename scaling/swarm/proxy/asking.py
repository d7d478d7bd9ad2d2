"""What a request asks for, or why it is refused: the list of all that passes the gate.

A target is read in the one spelling that our own client uses. Escapes, double slashes, dots and
full URLs are refused rather than made right: a proxy that understands them in another way than the
engine behind it is how proxies are walked around.

Text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

BODY_BYTES_MAX = 256 * 1024
"""A service's spec has a few kilobytes; Swarm takes no object above half a megabyte."""

_VERSION = re.compile(r"/v1\.[0-9]{1,3}(?=/)")
_TARGET = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}){1,3}")
_INDEX = re.compile(r"[0-9]{1,20}")


class Forbidden(Exception):
    """It does not pass the gate; the message says what does.

    Args:
        status: Of the HTTP answer.
    """

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What came in.

    Args:
        target: As it stood in the request's first line.
    """

    method: str
    target: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing that may be asked for.

    Args:
        what: A key of `ROUTES`, such as `update service`.
        id: Of what; "" where there is one only.
        version: Over which a change is to be written.
        filters: Of a list.
        body: The decoded JSON of a change.
    """

    what: str
    id: str = ""
    version: int | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None


class _Route(NamedTuple):
    method: str
    path: re.Pattern[str]
    query: str = ""


def _route(method: str, path: str, query: str = "") -> _Route:
    return _Route(method, re.compile(path.replace("ID", "(?P<id>[^/]+)")), query)


ROUTES: Mapping[str, _Route] = {
    "ping": _route("GET", "/_ping"),
    "version": _route("GET", "/version"),
    "service": _route("GET", "/services/ID"),
    "tasks": _route("GET", "/tasks", "filters"),
    "nodes": _route("GET", "/nodes"),
    "configs": _route("GET", "/configs", "filters"),
    "config": _route("GET", "/configs/ID"),
    "join": _route("GET", "/swarm"),
    "events": _route("GET", "/events", "filters"),
    "create config": _route("POST", "/configs/create"),
    "update service": _route("POST", "/services/ID/update", "version"),
    "update node": _route("POST", "/nodes/ID/update", "version"),
    "update config": _route("POST", "/configs/ID/update", "version"),
    "remove node": _route("DELETE", "/nodes/ID"),
    "remove config": _route("DELETE", "/configs/ID"),
}
"""Everything that passes, and the one parameter that each must have."""


def asked(request: Request) -> Asked:
    """Read a request. Raises `Forbidden`."""
    target, question, query = request.target.partition("?")
    path = _VERSION.sub("", target, count=1)
    if not _TARGET.fullmatch(path):
        raise Forbidden(f"{_shown(target)} is not a path that this proxy reads")
    for what, route in ROUTES.items():
        match = route.path.fullmatch(path)
        if match is not None and request.method == route.method:
            _check_body(request)
            return Asked(
                what,
                id=match.groupdict().get("id", ""),
                body=_json(request.body) if request.method == "POST" else None,
                **_parameter(route.query, query, given=bool(question)),
            )
    raise Forbidden(
        f"{_shown(request.method)} {_shown(path)} is not allowed here: this proxy lets peers scale "
        "their own service, and nothing else"
    )


def _check_body(request: Request) -> None:
    if request.method != "POST" and request.body:
        raise Forbidden(f"{request.method} takes no body")
    if len(request.body) > BODY_BYTES_MAX:
        raise Forbidden(f"the body is longer than {BODY_BYTES_MAX} bytes", status=413)


def _parameter(name: str, query: str, *, given: bool) -> dict[str, Any]:
    """Take the query apart: the one parameter that belongs there, once, and no other."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=given, max_num_fields=2)
    except ValueError:
        raise Forbidden("the query cannot be read") from None
    names = [key for key, _ in pairs]
    wanted = [name] if name else []
    if names != wanted:
        raise Forbidden(
            f"the query must have {name!r} and nothing else"
            if name
            else "this is asked without a query"
        )
    match name:
        case "":
            return {}
        case "version":
            return {"version": _index(pairs[0][1])}
        case _:
            return {"filters": _filters(pairs[0][1])}


def _index(text: str) -> int:
    if not _INDEX.fullmatch(text):
        raise Forbidden("the version must be a number")
    return int(text)


def _filters(text: str) -> dict[str, Any]:
    found = _json(text.encode())
    if not isinstance(found, dict):
        raise Forbidden("filters must be a JSON object")
    return found


def _json(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Forbidden(f"it is not JSON: {error}", status=400) from None


def _shown(text: str) -> str:
    """A stranger's text, in a sentence and in a log."""
    return ascii(text[:80])[1:-1]
