"""The control socket: one request a connection, items and a last line, and no way to upset it."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
import trio

from peer.client import Peer
from peer.control import REQUEST_BYTES_MAX, ControlServer, SendItem
from peer.errors import CommandFailed
from pipeline.errors import BadRequest, LedgerUnavailable, NoSuchTask, NotAllowed

TASK = UUID("3f2a0000-0000-4000-8000-000000000000")


class _Positive(msgspec.Struct):
    n: Annotated[int, msgspec.Meta(ge=1)]


class Handlers:
    """Commands that do one telling thing each."""

    def __init__(self) -> None:
        self.cancelled = trio.Event()
        self.following = trio.Event()

    def commands(self) -> dict[str, Any]:
        return {
            "echo": self.echo,
            "count": self.count,
            "for_ever": self.for_ever,
            "checked": self.checked,
            "fail": self.fail,
        }

    async def echo(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        return {"task_id": TASK, **arguments}

    async def count(self, arguments: Mapping[str, Any], send_item: SendItem) -> Any:
        for number in range(arguments["to"]):
            await send_item({"number": number})
        return "done"

    async def for_ever(self, _: Mapping[str, Any], send_item: SendItem) -> Any:
        await send_item("first")
        self.following.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    async def checked(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        return msgspec.convert(dict(arguments), _Positive)

    async def fail(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        raise {
            "usage": BadRequest("no such ladder"),
            "not_found": NoSuchTask("no task 99"),
            "not_allowed": NotAllowed("already done"),
            "failed": CommandFailed("starting"),
            "away": LedgerUnavailable("gone", definite=True),
            "bug": KeyError("nobody thought of this"),
        }[arguments["how"]]


@asynccontextmanager
async def serving(path: Path, handlers: Handlers) -> AsyncIterator[Path]:
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(path, handlers.commands()).run)
        yield path
        nursery.cancel_scope.cancel()


async def ask(path: Path, request: bytes) -> list[dict[str, Any]]:
    """Send bytes, and read every line of the answer."""
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(request)
        received = b""
        with trio.fail_after(5):
            async for chunk in stream:
                received += chunk
    return [json.loads(line) for line in received.splitlines()]


def line(command: str, **arguments: Any) -> bytes:
    return json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"


async def test_a_command_is_answered_with_its_data(tmp_path: Path) -> None:
    """UUIDs and the like arrive as text."""
    async with serving(tmp_path / "s", Handlers()) as path:
        answer = await ask(path, line("echo", x=1))

    assert answer == [{"ok": True, "data": {"task_id": str(TASK), "x": 1}}]


async def test_items_come_before_the_last_line(tmp_path: Path) -> None:
    """In their order."""
    async with serving(tmp_path / "s", Handlers()) as path:
        answer = await ask(path, line("count", to=2))

    assert answer == [
        {"item": {"number": 0}},
        {"item": {"number": 1}},
        {"ok": True, "data": "done"},
    ]


@pytest.mark.parametrize(
    ("how", "kind", "error"),
    [
        ("usage", "usage", "no such ladder"),
        ("not_found", "not_found", "no task 99"),
        ("not_allowed", "failed", "already done"),
        ("failed", "failed", "starting"),
        ("away", "failed", "gone"),
    ],
)
async def test_a_refusal_says_which_kind_it_is(
    tmp_path: Path, how: str, kind: str, error: str
) -> None:
    """peerctl's exit code follows from it."""
    async with serving(tmp_path / "s", Handlers()) as path:
        answer = await ask(path, line("fail", how=how))

    assert answer == [{"ok": False, "error": error, "kind": kind}]


async def test_a_bug_in_a_command_is_answered_and_survived(tmp_path: Path) -> None:
    """The person is sent to the log; the next command is served."""
    async with serving(tmp_path / "s", Handlers()) as path:
        [broken] = await ask(path, line("fail", how="bug"))
        [served] = await ask(path, line("echo"))

    assert (broken["ok"], broken["kind"], served["ok"]) == (False, "failed", True)
    assert "internal error" in broken["error"]


async def test_a_wrong_argument_is_the_callers_mistake(tmp_path: Path) -> None:
    """The sentence names the argument."""
    async with serving(tmp_path / "s", Handlers()) as path:
        [answer] = await ask(path, line("checked", n=0))

    assert answer["kind"] == "usage"
    assert "$.n" in answer["error"]


@pytest.mark.parametrize(
    "request_line",
    [
        b"not json\n",
        b"[]\n",
        b'{"command": 1}\n',
        b'{"command":"echo","arguments":[]}\n',
        b"[" * 9999 + b"\n",
    ],
)
async def test_nonsense_is_answered_with_what_is_wrong(tmp_path: Path, request_line: bytes) -> None:
    """And the next connection is served as if nothing had been."""
    async with serving(tmp_path / "s", Handlers()) as path:
        [refused] = await ask(path, request_line)
        [served] = await ask(path, line("echo"))

    assert (refused["ok"], refused["kind"], served["ok"]) == (False, "usage", True)


async def test_an_unknown_command_names_the_known_ones(tmp_path: Path) -> None:
    """A newer peerctl may talk to an older peer."""
    async with serving(tmp_path / "s", Handlers()) as path:
        [answer] = await ask(path, line("frobnicate"))

    assert "echo" in answer["error"]


@pytest.mark.parametrize("request_bytes", [b"", b'{"command"', b"x" * (REQUEST_BYTES_MAX * 2)])
async def test_a_request_that_never_ends_harms_nobody(tmp_path: Path, request_bytes: bytes) -> None:
    """It is dropped without an answer; the server goes on."""
    async with serving(tmp_path / "s", Handlers()) as path:
        stream = await trio.open_unix_socket(path)
        async with stream:
            try:
                await stream.send_all(request_bytes)
                await stream.send_eof()
                dropped = await stream.receive_some()
            except trio.BrokenResourceError:
                dropped = b""
        [served] = await ask(path, line("echo"))

    assert (dropped, served["ok"]) == (b"", True)


async def test_a_stream_ends_when_its_reader_hangs_up(tmp_path: Path) -> None:
    """`peerctl events --follow` ends with Ctrl-C; the peer must not follow for ever."""
    handlers = Handlers()
    async with serving(tmp_path / "s", handlers) as path:
        stream = await trio.open_unix_socket(path)
        await stream.send_all(line("for_ever"))
        await handlers.following.wait()
        await stream.aclose()
        with trio.fail_after(5):
            await handlers.cancelled.wait()

    assert handlers.cancelled.is_set()


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    """Mode 0600, and gone when the server is."""
    path = tmp_path / "s"
    async with serving(path, Handlers()):
        mode = stat.S_IMODE(path.stat().st_mode)

    assert (mode, path.exists()) == (0o600, False)


async def test_a_dead_peers_socket_is_replaced(tmp_path: Path) -> None:
    """A killed peer cannot remove its own."""
    path = tmp_path / "s"
    dead = trio.socket.socket(trio.socket.AF_UNIX)
    await dead.bind(str(path))
    dead.close()

    async with serving(path, Handlers()):
        [answer] = await ask(path, line("echo"))

    assert answer["ok"]


async def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    """Data directories can lie deep; the kernel's limit is 107 bytes."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    async with serving(deep / "control.sock", Handlers()):
        answer = await trio.to_thread.run_sync(Peer(deep / "control.sock").ask, "echo")

    assert answer == {"task_id": str(TASK)}
