"""The user's own commands: what they are given, and what becomes of those that misbehave."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from scaling.ports import ProviderFailed
from scaling.providers.commands import ExecProvider
from scaling.providers.config import ExecConfig, ProviderConfig
from scaling.providers.errors import ProviderRefused
from tests.contract.providers.providers import TOKEN, exec_config, join

PEER = {
    "PATH": os.environ["PATH"],
    "HOME": "/nowhere",
    "AWS_PROFILE": "ops",
    "GRAPEVINE_LEDGER_URL": "postgresql://peer:secret@db/grapevine",
}


def _provider(directory: Path, **more: Any) -> ExecProvider:
    return ExecProvider(exec_config(directory, **more), join, PEER)


async def test_the_token_is_in_the_environment_of_create_alone(tmp_path: Path) -> None:
    """`create` finds name, cluster, token and managers in variables; no argument has the token."""
    await _provider(tmp_path).create("pool-1")
    seen = json.loads((tmp_path / "pool-1").read_text())
    assert seen["environment"] == {
        "GRAPEVINE_NODE_NAME": "pool-1",
        "GRAPEVINE_CLUSTER": "grapevine",
        "GRAPEVINE_JOIN_TOKEN": TOKEN,
        "GRAPEVINE_JOIN_ADDRESSES": "10.0.0.1:2377,10.0.0.2:2377",
    }
    assert seen["argv"][-2:] == ["create", "pool-1"]
    assert TOKEN not in " ".join(seen["argv"])


async def test_nothing_else_of_the_peer_is_passed_on(tmp_path: Path) -> None:
    """Of the peer's variables, commands see what the setting names, and none of its secrets."""
    provider = _provider(tmp_path, pass_environment=("AWS_PROFILE", "NOT_SET"))
    await provider.create("pool-1")
    seen = json.loads((tmp_path / "pool-1").read_text())["all"]
    ours = {name for name in seen if name.startswith("GRAPEVINE_")}
    # LC_CTYPE is Python's own doing.
    assert set(seen) - ours - {"LC_CTYPE"} == {"PATH", "LANG", "AWS_PROFILE"}
    assert "GRAPEVINE_LEDGER_URL" not in ours


@pytest.mark.parametrize(("code", "kind"), [(1, ProviderFailed), (64, ProviderRefused)])
async def test_a_failure_tells_what_the_command_said(
    tmp_path: Path, code: int, kind: type[ProviderFailed]
) -> None:
    """Exit code and the end of standard error are told; the token and control characters not."""
    (tmp_path / ".trouble").write_text(f"create fail {code}")
    with pytest.raises(ProviderFailed) as failed:
        await _provider(tmp_path).create("pool-1")
    assert type(failed.value) is kind
    said = str(failed.value)
    assert f"exit code {code}" in said
    assert "quota exceeded" in said
    assert TOKEN not in said
    assert "\x1b" not in said


async def test_no_piece_of_the_token_is_told(tmp_path: Path) -> None:
    """Not even where the kept end of a long complaint begins in the middle of it."""
    (tmp_path / ".trouble").write_text("create scream")
    with pytest.raises(ProviderFailed, match="no quota") as failed:
        await _provider(tmp_path).create("pool-1")
    assert not any(TOKEN[start : start + 6] in str(failed.value) for start in range(len(TOKEN) - 5))


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program-anywhere", "/etc/hosts"])
async def test_a_program_that_cannot_be_started_is_refused(tmp_path: Path, program: str) -> None:
    """It is said which, and that trying again does not help."""
    with pytest.raises(ProviderRefused, match=program):
        await _provider(tmp_path, list=(program,)).list()


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    """After its time-out nothing of its process group is left, and it is said how long it had."""
    (tmp_path / ".trouble").write_text("create hang")
    for timeout_s in (1.5, 6.0, 24.0):  # until a Python has started; on most machines at once
        with pytest.raises(ProviderFailed, match=rf"longer than {timeout_s:g} s"):
            await _provider(tmp_path, create_timeout_s=timeout_s).create("pool-1")
        if _pids(tmp_path):
            break
    await _wait_gone(tmp_path, count=2)


async def test_a_cancelled_call_leaves_nothing(tmp_path: Path) -> None:
    """A peer that stops takes its commands with it."""
    (tmp_path / ".trouble").write_text("create hang")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_provider(tmp_path).create, "pool-1")
        await _until(lambda: _pids(tmp_path) != [])
        nursery.cancel_scope.cancel()
    await _wait_gone(tmp_path, count=2)


async def test_a_child_that_is_left_behind_does_not_hold_the_call_up(tmp_path: Path) -> None:
    """A command that starts something and ends is over, and so is what it started."""
    (tmp_path / ".trouble").write_text("create leave")
    with trio.fail_after(20):
        await _provider(tmp_path).create("pool-1")
    await _wait_gone(tmp_path, count=1)


async def test_a_flood_is_cut(tmp_path: Path) -> None:
    """Of too much output nothing is kept but the end of what went wrong."""
    (tmp_path / ".trouble").write_text("list flood")
    with pytest.raises(ProviderFailed, match="more than 1048576 bytes") as failed:
        await _provider(tmp_path).list()
    assert len(str(failed.value)) < 300


async def test_a_list_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A line that is skipped would be a machine that is made twice."""
    (tmp_path / ".trouble").write_text("list print pool-1 asleep")
    with pytest.raises(ProviderFailed, match="line 1: the state 'asleep'"):
        await _provider(tmp_path).list()


async def test_the_cluster_is_filled_in(tmp_path: Path) -> None:
    """{cluster} in an argument is the cluster's name, and other braces are left alone."""
    echo = ("/bin/echo", "# {cluster} {other} {{name}}")
    config = ProviderConfig(
        kind="exec",
        cluster="film",
        exec=ExecConfig(create=("true", "{name}"), list=echo, destroy=("true", "{name}")),
    )
    assert await ExecProvider(config, join, PEER).list() == ()


async def _wait_gone(directory: Path, *, count: int) -> None:
    pids = _pids(directory)
    assert len(pids) == count
    await _until(lambda: not any(_alive(pid) for pid in pids))


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await trio.sleep(0.01)


def _pids(directory: Path) -> list[int]:
    file = directory / ".pids"
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def _alive(pid: int) -> bool:
    """A zombie is not: whoever inherits it reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
