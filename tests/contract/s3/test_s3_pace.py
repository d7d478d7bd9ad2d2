"""A store, or a proxy before it, that trickles the heads of its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pipeline.errors import StoreUnavailable
from pipeline.stores.s3 import push
from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.store import S3Store
from tests.contract.s3.film import names_in, rewrite
from tests.servers.faulty_http import Exchange, Fault, FaultyProxy

SLOW = 50.0
"""Bytes a second: a head takes several seconds, and is never silent for longer than 20 ms."""
TIMEOUT_S = 0.4

ONLY: dict[str, Callable[[Exchange], bool]] = {
    "look": lambda e: e.method == "HEAD",
    "part-down": lambda e: "Range" in e.headers,
    "list": lambda e: e.method == "GET" and "list-type" in e.target,
    "remove": lambda e: e.method == "POST" and "delete" in e.target,
    "whole-up": lambda e: e.method == "PUT",
    "begin": lambda e: e.method == "POST" and "uploads" in e.target,
    "part-up": lambda e: e.method == "PUT",
    "complete": lambda e: e.method == "POST" and "uploadId" in e.target,
}


@pytest.mark.parametrize("request_", ONLY)
async def test_heads_that_trickle(
    config: S3Config,
    store: S3Store,
    proxy: FaultyProxy,
    film: Path,
    tmp_path: Path,
    open_store: Callable[[S3Config], S3Store],
    monkeypatch: pytest.MonkeyPatch,
    request_: str,
) -> None:
    """Whatever was asked: it is as good as silent, unavailable soon, without a thread at it."""
    monkeypatch.setattr(push, "COMPLETING", 1)
    await store.push(film, "tasks/film")
    small = tmp_path / "small"
    rewrite(small, b"small")
    impatient = open_store(replace(config, read_timeout_s=TIMEOUT_S, connections=1))
    calls: dict[str, Callable[[], object]] = {
        "look": lambda: impatient.size_of("tasks/film"),
        "part-down": lambda: impatient.pull("tasks/film", tmp_path / "target"),
        "list": lambda: impatient.list(""),
        "remove": lambda: impatient.remove("tasks"),
        "whole-up": lambda: impatient.push(small, "small"),
    }
    proxy.fault = Fault(only=ONLY[request_], drip_head_bytes_per_s=SLOW)
    with trio.fail_after(20):
        # The thread itself has given up; our waiting for it would be ended with other words.
        with pytest.raises(StoreUnavailable, match="did not finish the headers of its answer"):
            await calls.get(request_, lambda: impatient.push(film, "large"))()  # type: ignore[misc]
    assert "target" not in names_in(tmp_path)
