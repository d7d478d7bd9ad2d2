"""`peerctl keys`: what is asked of the peer, what is shown, and what never is."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from click.testing import CliRunner, Result

from peer.cli import main
from peer.commands import cluster

KEY = "kQeUzr3mG4fY6pYc0J4q7l8Xw1v9bT2sN5aH6dE3fGo="


class FakePeer(Protocol):
    requests: list[dict[str, Any]]


StartPeer = Callable[..., FakePeer]
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `peerctl keys` with the fake peers' data directory, and no setting of this machine."""
    (tmp_path / "grapevine.toml").touch()
    monkeypatch.setenv("GRAPEVINE_CONFIG", str(tmp_path / "grapevine.toml"))
    monkeypatch.setenv("GRAPEVINE_PEER_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(main, ["keys", *arguments], input=input)

    return run


def ring(*, late: bool = False) -> list[Mapping[str, Any]]:
    holders = [
        {"uid": "aa" * 8, "name": "one", "version": 2, "current": True, "own": True},
        {"uid": "bb" * 8, "name": "two", "version": 1 + (not late), "current": not late}
        | {"own": False},
    ]
    key = {"id": 3, "fingerprint": "3f2a1b2c", "primary": True}
    shown = {"version": 2, "origin": "aa" * 8, "keys": [key], "holders": holders, "note": ""}
    return [{"ok": True, "data": shown}]


def test_a_generated_key_is_a_key() -> None:
    """32 random bytes as base64, another one every time, without any peer."""
    made = [CliRunner().invoke(main, ["keys", "generate"]).stdout.strip() for _ in range(2)]
    assert len({*made}) == 2
    assert all(len(b64decode(key)) == 32 for key in made)
    as_json = CliRunner().invoke(main, ["keys", "generate", "--json"])
    assert len(b64decode(json.loads(as_json.stdout)["key"])) == 32


@pytest.mark.parametrize("from_file", [True, False])
def test_a_key_comes_from_a_file(
    run: Run, start_peer: StartPeer, tmp_path: Path, from_file: bool
) -> None:
    """Or from standard input, never from the command line; and it is not shown."""
    peer = start_peer({"keys": lambda _: ring()})
    (tmp_path / "new.key").write_text(f"{KEY}\n")
    result = run("install", str(tmp_path / "new.key") if from_file else "-", input=f"{KEY}\n")
    assert result.exit_code == 0, result.output
    assert peer.requests[0]["arguments"] == {"action": "install", "key": KEY}
    assert "3f2a1b2c" in result.stdout
    assert KEY not in result.output


def test_a_file_that_cannot_be_read_is_wrong_usage(run: Run, start_peer: StartPeer) -> None:
    """It is said, and no peer is asked."""
    peer = start_peer({"keys": lambda _: ring()})
    result = run("install", "no-such-file")
    assert result.exit_code == 2
    assert "cannot read no-such-file" in result.stderr
    assert peer.requests == []


@pytest.mark.parametrize("action", ["use", "remove"])
@pytest.mark.parametrize("force", [True, False])
def test_a_change_is_followed_until_all_have_it(
    run: Run, start_peer: StartPeer, action: str, force: bool
) -> None:
    """The command ends when the last living member has the ring."""
    looks = [ring(late=True), ring(late=True), ring()]
    peer = start_peer({"keys": lambda _: looks.pop(0)})
    result = run(action, "3f2a", *(["--force"] if force else []))
    assert result.exit_code == 0, result.output
    assert [request["arguments"] for request in peer.requests] == [
        {"action": action, "key": "3f2a", "force": force},
        {},
        {},
    ]
    assert "all 2 living members have it" in result.stdout


def test_who_does_not_get_it_is_named(
    run: Run, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ring has changed all the same; exit code 1 says that not all have it yet."""
    monkeypatch.setattr(cluster, "SPREAD_WITHIN_S", 0.0)
    start_peer({"keys": lambda _: ring(late=True)})
    result = run("use", "3f2a")
    assert result.exit_code == 1
    assert "Not yet: two (bbbbbbbb, version 1)" in result.stdout
    assert "two did not get it within 0 s" in result.stderr
