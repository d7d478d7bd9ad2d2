from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from peer import client
from peer.client import Peer, find_peer
from peer.errors import BadAnswer, CommandFailed, NoPeer
from peer.paths import Places


class FakePeer(Protocol):
    socket_path: Path
    data_dir: Path
    requests: list[dict[str, Any]]

    def close(self) -> None: ...


class StartPeer(Protocol):
    def __call__(self, script: Mapping[str, Any], name: str = "one") -> FakePeer: ...


def test_a_request_is_one_line(start_peer: StartPeer) -> None:
    """The command and its arguments arrive as they were given, and the data come back."""
    peer = start_peer({"tasks": [{"ok": True, "data": [1, 2]}]})
    assert Peer(peer.socket_path).ask("tasks", limit=2) == [1, 2]
    assert peer.requests == [{"command": "tasks", "arguments": {"limit": 2}}]


def test_items_come_before_the_data(start_peer: StartPeer) -> None:
    """A stream yields its items in order and its data last; `ask` skips the items."""
    lines = [{"item": 1}, {"item": None}, {"ok": True, "data": "end"}]
    peer = Peer(start_peer({"watch": lines}).socket_path)
    assert list(peer.follow("watch")) == [1, None, "end"]
    assert peer.ask("watch") == "end"


def test_those_that_answer_are_named(start_peer: StartPeer) -> None:
    """Who asks for a peer that is not there learns which ones are."""
    data_dir = start_peer({}, "one").data_dir
    start_peer({}, "two")
    with pytest.raises(NoPeer, match=r"no peer answers as 'nobody' in .*; these do: one, two$"):
        find_peer(Places(data_dir), socket_path=None, name="nobody")


def test_the_usual_directory_need_not_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint is as short as it can be."""
    monkeypatch.setattr(client, "default_data_dir", lambda _: tmp_path)
    assert client.start_command(Places(tmp_path)) == "peer"
    assert client.start_command(Places(tmp_path / "a b")) == f"peer --data-dir '{tmp_path}/a b'"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("usage", "usage"), ("not_found", "not_found"), ("failed", "failed"), ("new kind", "failed")],
)
def test_a_refusal_keeps_its_kind(start_peer: StartPeer, kind: str, expected: str) -> None:
    """A no is an error with the peer's sentence; a kind this version does not know is a failure."""
    peer = start_peer({"task": [{"ok": False, "error": "there is no such task", "kind": kind}]})
    with pytest.raises(CommandFailed, match="there is no such task") as caught:
        Peer(peer.socket_path).ask("task", id="x")
    assert caught.value.kind == expected


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "hung up without an answer to 'tasks'"),
        ([{"item": 1}], "hung up without an answer to 'tasks'"),
        ([{"neither": 1}], "sent something that is not an answer"),
        (["text"], "sent something that is not an answer"),
        ([{"ok": False}], "sent something that is not an answer"),
    ],
)
def test_nonsense_is_said(start_peer: StartPeer, lines: list[Any], sentence: str) -> None:
    """Whatever comes over the socket ends in a sentence."""
    peer = start_peer({"tasks": lines})
    with pytest.raises(BadAnswer, match=sentence):
        Peer(peer.socket_path).ask("tasks")


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [(b'{"ok": true', "a line that breaks off"), (b"x" * 100, "a line that is too long")],
)
def test_a_line_without_an_end_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes, sentence: str
) -> None:
    """What is cut is not taken for nonsense: the sentence says what happened to the line."""
    monkeypatch.setattr(client, "LINE_BYTES_MAX", 100)
    path = tmp_path / "s"

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(sent)

    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        listening.listen()
        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(BadAnswer, match=sentence):
            Peer(path).ask("task")
        answering.join()


def test_a_stream_cut_short_is_said(start_peer: StartPeer) -> None:
    """A peer that dies in the middle of a stream is not taken for its end."""
    stream = Peer(start_peer({"watch": [{"item": 1}]}).socket_path).follow("watch")
    assert next(stream) == 1
    with pytest.raises(BadAnswer, match="stopped while 'watch' was going on"):
        next(stream)


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """A socket where somebody listens and says nothing, or nothing sensible."""
    path = tmp_path / "silent.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        listening.listen()
        yield path


def test_silence_ends(silent: Path) -> None:
    """A frozen peer is given up after the timeout, with a sentence."""
    with pytest.raises(BadAnswer, match=r"did not answer 'status' within 0\.05 s"):
        Peer(silent, answer_timeout_s=0.05).ask("status")


def test_the_named_peer_is_taken(start_peer: StartPeer) -> None:
    """A socket and a name choose that peer; without either the first by name answers."""
    one, two = start_peer({}, "one"), start_peer({}, "two")
    places = Places(one.data_dir)
    assert find_peer(places, socket_path=None, name="two").path == two.socket_path
    assert find_peer(places, socket_path=two.socket_path, name=None).path == two.socket_path
    assert find_peer(places, socket_path=None, name=None).path == one.socket_path


def test_a_dead_peers_socket_is_passed_over(start_peer: StartPeer, tmp_path: Path) -> None:
    """A socket that a killed peer left does not hide the peer that lives."""
    living = start_peer({}, "living")
    left = tmp_path / "data" / "peers" / "a-dead-one"
    left.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as died:
        died.bind(str(left / "control.sock"))
    places = Places(living.data_dir)
    assert len(places.peers()) == 2
    assert find_peer(places, socket_path=None, name=None).path == living.socket_path
    with pytest.raises(NoPeer, match=r"no peer answers as 'a-dead-one'"):
        find_peer(places, socket_path=None, name="a-dead-one")


def test_nobody_is_said_with_what_to_type(tmp_path: Path) -> None:
    """Without a peer, the sentence holds the command that starts one here."""
    with pytest.raises(NoPeer, match=rf"start one with: .*peer --data-dir {tmp_path}$"):
        find_peer(Places(tmp_path), socket_path=None, name=None)
