"""`peerctl table --watch`: from peer to peer, in place on a terminal, line by line elsewhere."""

from __future__ import annotations

import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from peer.commands import cluster, watching
from peer.commands.session import Session
from peer.errors import NoPeer


class FakePeer(Protocol):
    def close(self) -> None: ...


StartPeer = Callable[..., FakePeer]

WITHIN_S = 20.0


def answer(name: str) -> list[Mapping[str, Any]]:
    table: dict[str, Any] = {
        "name": name,
        "uid": "00000000000000aa",
        "leader": None,
        "candidate": None,
        "quorate": True,
        "deaf": False,
        "suspected": False,
        "mass_event": False,
        "members": [],
    }
    return [{"ok": True, "data": table}]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """The fake peers' data directory, refreshed without a pause."""
    (tmp_path / "grapevine.toml").touch()
    monkeypatch.setattr(watching, "REFRESH_S", 0.0)
    return Session(data_dir=str(tmp_path / "data"), config_file=tmp_path / "grapevine.toml")


def seen(session: Session, count: int) -> list[str]:
    """Whose view it was, or the sentence."""
    answers = itertools.islice(watching._answers(session), count)
    return [each if isinstance(each, str) else each["name"] for each in answers]


def test_another_peer_is_asked_when_one_goes(session: Session, start_peer: StartPeer) -> None:
    """The watching outlives the peer that was asked, without a gap."""
    first = start_peer({"table": lambda _: answer("one")}, name="one")
    start_peer({"table": lambda _: answer("two")}, name="two")
    answers = watching._answers(session)
    assert next(answers)["name"] == "one"
    first.close()
    assert [next(answers)["name"] for _ in range(2)] == ["two", "two"]


def test_a_peer_that_answers_nonsense_is_left(session: Session, start_peer: StartPeer) -> None:
    """Whoever hangs up without an answer is not asked for ever."""
    start_peer({"table": []}, name="one")
    start_peer({"table": lambda _: answer("two")}, name="two")
    assert seen(session, 2) == ["two", "two"]


def test_a_frozen_peer_is_not_waited_for(
    session: Session, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the question and never answers; another one of the machine does."""
    monkeypatch.setattr(cluster, "ANSWER_WITHIN_S", 0.2)
    thaw = threading.Event()

    def freeze(_: Any) -> list[Any]:
        thaw.wait(WITHIN_S)
        return []

    start_peer({"table": freeze}, name="one")
    start_peer({"table": lambda _: answer("two")}, name="two")
    peer, told = cluster.ask_any(session)
    thaw.set()
    assert (peer.path.parent.name, told["name"]) == ("two", "two")


def test_nobody_is_waited_for(session: Session, start_peer: StartPeer) -> None:
    """While no peer of the machine answers that is said, and the next one is found."""
    first = start_peer({"table": lambda _: answer("one")}, name="one")
    answers = watching._answers(session)
    assert next(answers)["name"] == "one"
    first.close()
    assert "no peer answers" in next(answers)
    start_peer({"table": lambda _: answer("two")}, name="two")
    assert next(answers)["name"] == "two"


def test_the_named_peer_is_the_one(session: Session, start_peer: StartPeer) -> None:
    """Who asked for one peer's view is not shown another's."""
    named = Session(data_dir=session.data_dir, config_file=session.config_file, name="one")
    first = start_peer({"table": lambda _: answer("one")}, name="one")
    start_peer({"table": lambda _: answer("two")}, name="two")
    answers = watching._answers(named)
    assert next(answers)["name"] == "one"
    first.close()
    assert "still looking" in next(answers)
    with pytest.raises(NoPeer):
        watching.watch_table(named, as_json=False)


def _command(session: Session, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "peer.cli", "table", "--watch", *arguments),
        *("--data-dir", str(session.data_dir), "--config", str(session.config_file)),
    ]


def test_on_a_terminal_it_is_redrawn_until_ctrl_c(session: Session, start_peer: StartPeer) -> None:
    """One picture in one place; Ctrl-C ends it with 130, the cursor back and no traceback."""
    start_peer({"table": lambda _: answer("one")}, name="one")
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    try:
        watching = subprocess.Popen(
            _command(session), stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        text, deadline = b"", time.monotonic() + WITHIN_S
        while text.count(b"seen by one") < 2:  # drawn, and drawn again
            assert time.monotonic() < deadline
            text += os.read(ours, 4096)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(WITHIN_S) == 130
        try:
            while more := os.read(ours, 4096):
                text += more
        except OSError:
            pass  # the terminal's other end is closed: all is read
    finally:
        os.close(ours)
    assert b"\x1b[2K" in text
    assert text.rstrip().endswith(b"\x1b[?25h")
    assert b"Traceback" not in text


def test_in_a_pipe_each_look_is_a_line_of_json(session: Session, start_peer: StartPeer) -> None:
    """Scripts read one document a line, and end it by closing the pipe or by a signal."""
    start_peer({"table": lambda _: answer("one")}, name="one")
    with subprocess.Popen(
        _command(session, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        for _ in range(2):
            assert json.loads(watching.stdout.readline())["name"] == "one"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(WITHIN_S) == 130
        assert watching.stderr.read() == ""
