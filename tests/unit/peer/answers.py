"""What tests of `peerctl` share: how it is run, and what a scripted peer sends back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from click.testing import Result

Run = Callable[..., Result]


class FakePeer(Protocol):
    socket_path: Path
    requests: list[dict[str, Any]]


class StartPeer(Protocol):
    def __call__(self, script: Mapping[str, Any], name: str = "one") -> FakePeer: ...


def ok(data: Any, *items: Any) -> list[dict[str, Any]]:
    return [*({"item": item} for item in items), {"ok": True, "data": data}]


def refused(kind: str) -> list[dict[str, Any]]:
    return [{"ok": False, "error": "the sentence", "kind": kind}]
