"""`peerctl scale`: what is asked of the peer, what people see, and decisions made again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from peer.cli import main
from peer.scale.protocol import ShownLook, ShownNode, ShownScaling
from peer.scale.requests import shown_look
from scaling.config import ScalingConfig
from scaling.ledger.journal import Look
from scaling.memory import Memory
from scaling.policy import decide
from scaling.record import Considered
from scaling.snapshot import Container, ContainerState, Demand, Node, NodeState, Snapshot
from tests.unit.peer.answers import StartPeer, ok

Run = Callable[..., Result]
AT = "2026-03-01T12:00:00+00:00"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `peerctl scale` with the fake peers' data directory, and no setting of this machine."""
    (tmp_path / "grapevine.toml").touch()
    monkeypatch.setenv("GRAPEVINE_CONFIG", str(tmp_path / "grapevine.toml"))
    monkeypatch.setenv("GRAPEVINE_PEER_DATA_DIR", str(tmp_path / "data"))
    return lambda *arguments: CliRunner().invoke(main, ["scale", *arguments])


def considered(ready: int = 40) -> Considered:
    snapshot = Snapshot(
        now_s=500.0,
        leading_s=400.0,
        term=3,
        demand=Demand(
            ready=ready, delayed=2, running=1, arrivals_per_s=0.5, service_s=61.0, age_s=0.0
        ),
        containers=(Container(id="a", slot=1, node="n1", state=ContainerState.RUNNING),),
        nodes=(
            Node(name="n1", state=NodeState.READY, since_s=90.0, capacity=4, fixed=True, cpu=0.834),
        ),
        wanted=1,
    )
    config = ScalingConfig()
    decision, _ = decide(snapshot, config, Memory())
    return Considered(snapshot=snapshot, config=config, memory=Memory(), decision=decision)


def decision(number: int, made: Considered, **changes: Any) -> dict[str, Any]:
    plain = msgspec.to_builtins(made)
    return {
        "number": number,
        "first_at": AT,
        "last_at": AT,
        "count": 1,
        "term": 3,
        "leader": "one",
        "mode": "acting",
        "considered": plain,
        "reasons": plain["decision"]["reasons"],
        "actions": [{"action": "SetContainers", "count": 4}],
        "outcomes": [{"action": "SetContainers", "count": 4, "trouble": ""}],
        **changes,
    }


def status(mode: str = "acting", **changes: Any) -> Sequence[Any]:
    look = Look(
        at=datetime.fromisoformat(AT),
        age_s=2.0,
        term=3,
        leader="one",
        mode=mode,
        considered=msgspec.to_builtins(considered()),
    )
    shown = ShownScaling(
        orchestrator="Docker Swarm, service peers",
        leader="one",
        own=True,
        reach="",
        paused=None,
        look=shown_look(look),
    )
    return ok(msgspec.to_builtins(replace(shown, **changes)))


def test_how_it_is_and_how_it_should_be(run: Run, start_peer: StartPeer) -> None:
    """In one page: who leads, what there is, what should be, the nodes, and why."""
    peer = start_peer({"scale": status()})
    result = run()
    assert result.exit_code == 0, result.output
    assert peer.requests == [{"command": "scale", "arguments": {}}]
    assert "Docker Swarm, service peers; one leads" in result.output
    assert "seen by one (term 3) 2 s ago" in result.output
    assert "1 wanted (1 running)" in result.output
    assert "40 wait, 1 is worked on, 2 wait for another attempt" in result.output
    assert "30.0 a minute arrive, one takes 61 s" in result.output
    row = next(line for line in result.output.splitlines() if line.startswith("n1"))
    assert row.split() == ["n1", "ready", "(kept)", "1/4", "83", "%", "-", "1", "min"]
    assert "queue_high" in result.output


def test_what_stands_in_the_way_is_said(run: Run, start_peer: StartPeer) -> None:
    """A pause, a dry run, a peer that reaches nobody, and a cluster that nobody leads."""
    pause = {"at": AT, "by": "ann", "why": "racks"}
    start_peer({"scale": status(paused=None, mode="dry_run")}, name="dry")
    start_peer(
        {"scale": [{"ok": True, "data": {**status()[0]["data"], "paused": pause, "leader": None}}]},
        name="paused",
    )
    start_peer({"scale": status(reach="the socket is missing")}, name="worker")
    start_peer({"scale": status(look=None, leader=None)}, name="new")
    assert "dry run: nothing of it is done" in run("--peer", "dry").output
    paused = run("--peer", "paused").output
    assert "paused by ann" in paused
    assert ": racks" in paused
    assert "this peer knows of no leader" in paused
    assert "the oldest peer that is not drained and reaches the orchestrator" in paused
    assert "does not reach it: the socket is missing" in run("--peer", "worker").output
    new = run("--peer", "new").output
    assert "nobody leads" in new
    assert "no leader has looked yet" in new


def test_nodes_on_standby_are_one_row(run: Run, start_peer: StartPeer) -> None:
    """Those in a row, if there are many, with their room; whoever has something to tell has a row
    of its own, and the document has all."""
    ready = ShownNode(
        name="n1", state="ready", since_s=1.0, containers=1, capacity=4, cpu=None, memory=None,
        fixed=False,
    )  # fmt: skip
    idle = [
        replace(ready, name=f"n{number}", state="standby", containers=0) for number in range(2, 9)
    ]
    failed = replace(ready, name="n9", state="down", containers=0)
    look = msgspec.convert(status()[0]["data"]["look"], ShownLook, strict=False)
    start_peer({"scale": status(look=replace(look, nodes=(ready, *idle, failed, idle[0])))})
    rows = [line.split() for line in run().output.splitlines() if line.startswith("n")]
    assert rows[1:] == [
        ["n1", "ready", "1/4", "-", "-", "1", "s"],
        ["n2", "…", "n8", "7", "on", "standby", "0/28", "-", "-", "-"],
        ["n9", "down", "0/4", "-", "-", "1", "s"],
        ["n2", "standby", "0/4", "-", "-", "1", "s"],
    ]
    assert len(json.loads(run("--json").output)["look"]["nodes"]) == 10


def test_trouble_with_the_machines_is_said(run: Run, start_peer: StartPeer) -> None:
    """How it is now, and how it was at each decision; one of an older version had no such thing."""
    made = considered()
    trouble = "film-2 was not made, and nothing is ordered for 60 s: quota exceeded"
    made = replace(made, snapshot=replace(made.snapshot, machines=(trouble,)))
    older = decision(6, considered())
    del older["considered"]["snapshot"]["machines"]
    look = {**status()[0]["data"]["look"], "machines": (trouble,)}
    start_peer({"scale": status(look=look), "scale_explain": ok({}, decision(7, made), older)})
    assert f"machines: {trouble}" in " ".join(run().output.split())
    explained = " ".join(run("explain").output.split())
    assert explained.count(f"machines: {trouble}") == 1


def test_options_belong_to_the_command_that_is_meant(run: Run, start_peer: StartPeer) -> None:
    """One that would be ignored is refused."""
    start_peer({"scale": status()})
    result = run("--json", "explain")
    assert result.exit_code == 2
    assert "after the subcommand" in result.output
    assert json.loads(run("--json").output)["leader"] == "one"


def test_decisions_are_explained_the_newest_last(run: Run, start_peer: StartPeer) -> None:
    """With what there was, why, what was done, and why something was not."""
    failed = [{"action": "SetContainers", "count": 4, "trouble": "changed meanwhile"}]
    answers = [
        decision(9, considered(), outcomes=failed),
        decision(8, considered(), mode="paused", outcomes=[]),
        decision(7, considered(), count=3, last_at="2026-03-01T12:00:10+00:00"),
    ]
    peer = start_peer({"scale_explain": ok({}, *answers)})
    result = run("explain", "--limit", "3")
    assert result.exit_code == 0, result.output
    assert peer.requests[0]["arguments"] == {"limit": 3}
    first, second, third = result.output.split("#")[1:]
    assert "12:00:00 to 12:00:10, 3 times  by one (term 3)" in first
    assert "1 container on 1 node, should be 34 on 9" in first
    assert "at first 40 wait, 1 is worked on" in first
    assert "queue_high" in first
    assert "-> SetContainers 4: done" in first
    assert "paused: nothing of it is done" in second
    assert "at first" not in second
    assert "-> SetContainers 4: not begun" in second
    assert "-> SetContainers 4: not done: changed meanwhile" in third


def test_a_replay_says_whether_the_answer_is_the_same(run: Run, start_peer: StartPeer) -> None:
    """Made again by this very program; a difference is told, and is the exit code."""
    made = considered()
    other = replace(made, decision=considered(ready=0).decision)
    start_peer({"scale_explain": ok({}, decision(1, made))}, name="same")
    start_peer({"scale_explain": ok({}, decision(2, other))}, name="other")
    same = run("explain", "--replay", "--peer", "same")
    assert same.exit_code == 0
    assert "replayed: the same answer now" in same.output
    changed = run("explain", "--replay", "--peer", "other")
    assert changed.exit_code == 1
    assert "replayed: now it would be 34 containers on 9 nodes (queue_high" in changed.output
    line = run("explain", "--replay", "--json", "--peer", "same").output
    assert json.loads(line)["replayed"] == "same"


def test_a_replay_in_other_words_shows_them(run: Run, start_peer: StartPeer) -> None:
    """Where only a sentence differs, the numbers and the codes alone would look the same."""
    made = considered()
    reasons = list(made.decision.reasons)
    reasons[0] = replace(reasons[0], text="it is full")
    start_peer(
        {
            "scale_explain": ok(
                {},
                decision(1, replace(made, decision=replace(made.decision, reasons=tuple(reasons)))),
            )
        }
    )
    changed = run("explain", "--replay")
    assert changed.exit_code == 1
    assert "'40 parts wait, more than 10' instead of 'it is full'" in changed.output


def test_what_another_version_recorded_is_not_replayed(run: Run, start_peer: StartPeer) -> None:
    """It is said, with what to do."""
    strange = decision(1, considered())
    strange["considered"]["snapshot"]["demand"] = "a lot"
    start_peer({"scale_explain": ok({}, strange)})
    result = run("explain", "--replay")
    assert result.exit_code == 1
    assert "recorded by another version" in result.output


def test_nothing_decided_yet(run: Run, start_peer: StartPeer) -> None:
    """Is no error."""
    start_peer({"scale_explain": ok({})})
    result = run("explain")
    assert (result.exit_code, result.output) == (0, "No leader has decided anything yet.\n")


def test_a_pause_and_its_end(run: Run, start_peer: StartPeer) -> None:
    """Who pauses is told with it; and how to go on."""
    pause = {"at": AT, "by": "ann", "why": "racks"}
    peer = start_peer({"scale_pause": ok(pause), "scale_resume": ok({"was_paused": True})})
    result = run("pause", "--why", "racks")
    assert result.output.splitlines()[0] == "Scaling is paused by ann: racks."
    assert peer.requests[0]["arguments"]["why"] == "racks"
    assert peer.requests[0]["arguments"]["by"]
    assert run("resume").output == "Scaling goes on.\n"
