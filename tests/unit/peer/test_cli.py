from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from peer.cli import main
from peer.program import main as peer_main
from tests.unit.peer.answers import Run, StartPeer, ok, refused

COMMANDS = sorted(main.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(run: Run, command: str) -> None:
    """Every command's help is there without a peer, and shows how it is used."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example:\n    {'eval' if command == 'completion' else 'peerctl'}" in result.output
    assert command in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_print_data_have_json(run: Run, command: str) -> None:
    """`--json` is everywhere but where there is nothing to print but a show or a script."""
    if command in ("keys", "store"):
        return  # a group of commands; each of them is looked at below
    has_json = "--json" in run(command, "--help").output
    assert has_json == (command not in ("demo", "completion"))


@pytest.mark.parametrize(
    ("group", "command"),
    [
        *(("keys", command) for command in ("list", "generate", "install", "use", "remove")),
        ("store", "adopt"),
    ],
)
def test_each_command_of_a_group_has_json_and_an_example(
    run: Run, group: str, command: str
) -> None:
    """The groups' commands are as complete as the others."""
    result = run(group, command, "--help")
    assert "--json" in result.output
    assert f"Example:\n    peerctl {group}" in result.output


def test_the_list_of_commands() -> None:
    """These are the commands of this issue; scripts and the documents count on them."""
    assert set(main.commands) == {
        *("demo", "submit", "tasks", "task", "fetch", "escalations", "retry", "cancel"),
        *("events", "table", "status", "queue", "drain", "resume", "leave", "keys"),
        *("scale", "store", "doctor", "bundle", "completion"),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["tasks"],
        ["task", "3f"],
        ["events"],
        ["escalations"],
        ["retry", "3f"],
        ["cancel", "3f"],
        ["status"],
        ["queue"],
        ["drain"],
        ["drain", "two"],
        ["resume", "two"],
        ["leave"],
        ["table"],
        ["table", "--watch"],
        ["keys", "list"],
        ["keys", "use", "3"],
        ["store", "adopt"],
        ["events", "--local"],
        ["submit", "{video}"],
        ["submit", "{video}", "--wait", "--json"],
    ],
)
def test_no_peer_is_3(run: Run, video: Path, arguments: list[str]) -> None:
    """Without a peer every command that needs one ends with 3 and says how to start one."""
    result = run(*(argument.replace("{video}", str(video)) for argument in arguments))
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "start one with: " in result.stderr


@pytest.mark.parametrize(("kind", "code"), [("failed", 1), ("not_found", 1), ("usage", 2)])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_refusal_has_its_exit_code(
    run: Run, start_peer: StartPeer, kind: str, code: int, as_json: list[str]
) -> None:
    """What the peer refuses ends with its sentence on standard error and nothing else."""
    start_peer({"task": refused(kind)})
    result = run("task", "3f", *as_json)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == "Error: the sentence\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["tasks", "--state", "odd"],
        ["tasks", "--limit", "0"],
        ["events", "--type", "TaskRecieved"],
        ["submit", "no-such-file.mp4"],
        ["submit", "{video}", "--strictness", "odd"],
        ["submit", "{video}", "--priority", "urgent"],
        ["escalations", "--limit", "1001"],
        ["task"],
        ["no-such-command"],
        ["completion", "tcsh"],
        ["tasks", "--config", "{video}"],
    ],
)
def test_wrong_usage_is_2(run: Run, video: Path, arguments: list[str]) -> None:
    """A wrong command line or setting ends with 2, before any peer is asked."""
    result = run(*(argument.replace("{video}", str(video)) for argument in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "asked"),
    [
        ("tasks", [], {"state": None, "limit": 30}),
        ("tasks", ["--state", "done", "--limit", "5"], {"state": "done", "limit": 5}),
        ("task", ["3f2a"], {"id": "3f2a"}),
        ("escalations", [], {"limit": 30}),
        ("queue", [], {}),
        ("retry", ["3f", "--reason", "space again"], {"id": "3f", "reason": "space again"}),
        ("cancel", ["3f", "--reason", "wrong file"], {"id": "3f", "reason": "wrong file"}),
        ("table", [], {}),
        ("drain", [], {"member": None}),
        ("drain", ["two"], {"member": "two"}),
        ("resume", ["two"], {"member": "two"}),
        ("leave", ["two"], {"member": "two"}),
        ("keys", ["list"], {}),
    ],
)
def test_json_is_what_the_peer_said(
    run: Run, start_peer: StartPeer, command: str, arguments: list[str], asked: dict[str, Any]
) -> None:
    """`--json` prints the answer as it came, fields of newer peers included, as one document."""
    data = [{"anything": "at all", "ü": 1}]
    peer = start_peer({command: ok(data)})
    result = run(command, *arguments, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == data
    assert peer.requests[-1] == {"command": command, "arguments": asked}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (True, "the cluster's store now. Peers that use another one wait"),
        (False, "the cluster's store already"),
    ],
)
def test_adopting_a_store(run: Run, start_peer: StartPeer, changed: bool, said: str) -> None:
    """Which store that is, is said; and whether anything has changed."""
    peer = start_peer({"adopt_store": ok(data := {"url": "s3://videos/", "changed": changed})})
    assert run("store", "adopt").output == f"s3://videos/ is {said}.\n"
    assert json.loads(run("store", "adopt", "--json").stdout) == data
    assert peer.requests[-1] == {"command": "adopt_store", "arguments": {"force": False}}
    run("store", "adopt", "--force")
    assert peer.requests[-1] == {"command": "adopt_store", "arguments": {"force": True}}


def test_whose_store_is_adopted_must_be_said(run: Run, start_peer: StartPeer) -> None:
    """Of several peers none is chosen by chance: their stores may differ."""
    adopted = ok({"url": "s3://videos/", "changed": True})
    one, two = (start_peer({"adopt_store": adopted}, name) for name in ("one", "two"))
    refused = run("store", "adopt")
    assert refused.exit_code == 2
    assert "say which one: one, two" in refused.stderr
    assert run("store", "adopt", "--peer", "two").exit_code == 0
    assert [request["command"] for request in one.requests + two.requests] == ["adopt_store"]


def test_status_json_is_a_list(run: Run, start_peer: StartPeer) -> None:
    """One peer or many, the document has the same shape; a named peer stands alone."""
    start_peer({"status": ok({"name": "one"})}, "one")
    start_peer({"status": ok({"name": "two"})}, "two")
    assert json.loads(run("status", "--json").stdout) == [{"name": "one"}, {"name": "two"}]
    assert json.loads(run("status", "--json", "--peer", "two").stdout) == [{"name": "two"}]


def test_events_json_is_a_line_each(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any]
) -> None:
    """Events are JSON lines, so that they can be read while they come."""
    event = samples["event"]
    peer = start_peer({"events": ok({}, event, event | {"id": 8})})
    result = run("events", "--json", "--task", "3f", "--type", "taskreceived", "--follow")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [7, 8]
    assert peer.requests[-1]["arguments"] == {
        "task_id": "3f",
        "type": "TaskReceived",
        "limit": 50,
        "follow": True,
    }


def test_a_list_does_not_tell_of_outputs(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any]
) -> None:
    """What a list never fills is not in its document, where it would say that there is none."""
    empty: dict[str, Any] = {"attempts": [], "interventions": [], "segments": [], "outputs": []}
    start_peer({"tasks": ok([samples["task"](**empty)])})
    (told,) = json.loads(run("tasks", "--json").stdout)
    assert not empty.keys() & told.keys()
    assert told["warnings"] == []


def test_event_names_keep_their_spelling(run: Run) -> None:
    """What is listed can be found in logs and documents."""
    result = run("events", "--type", "Nope")
    assert result.exit_code == 2
    assert "'Nope' is not an event; known are ContainerErrorEscalation, " in result.stderr


@pytest.mark.parametrize("command", ["submit", "demo"])
def test_a_file_that_looks_like_an_option(
    run: Run, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is such a file, one is told how to name it; where there is none, it is a typo."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.mp4").touch()
    result = run(command, "-dash.mp4")
    assert result.exit_code == 2
    assert "Error: -dash.mp4 looks like an option; if you mean the file: ./-dash.mp4" in (
        result.stderr
    )
    assert "No such option" in run(command, "-other.mp4").stderr


def test_a_demo_of_no_file(run: Run, tmp_path: Path) -> None:
    """A pipe or a directory is refused before any peer is started."""
    os.mkfifo(tmp_path / "fifo.mp4")
    for video in ("fifo.mp4", "."):
        result = run("demo", tmp_path / video, "--data-dir", tmp_path / "demo")
        assert result.exit_code == 2
        assert "Error: " in result.stderr
    assert not (tmp_path / "demo").exists()


def test_a_peer_that_is_drained_has_a_note(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any]
) -> None:
    """It does what it was told, which is no problem, and takes no work, which must be known."""
    draining = samples["status"] | {"state": "draining"}
    start_peer({"status": ok(draining), "doctor": ok([])})
    lines = run("doctor").stdout.splitlines()
    (line,) = [line for line in lines if "draining" in line]
    assert line.startswith("--")
    assert "takes no work until it is resumed or started again" in line


def test_a_peer_that_is_quarantined_is_a_problem(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any]
) -> None:
    """Something is broken there that a person must find; the cause and the command are said."""
    why = "two of its failed tasks were finished by others"
    start_peer(
        {
            "status": ok(samples["status"] | {"state": "quarantined", "quarantined": why}),
            "doctor": ok([]),
        }
    )
    result = run("doctor")
    assert result.exit_code == 1
    assert why in result.stdout.replace("\n", " ")
    assert "peerctl resume one" in result.stdout


def test_one_test_notice_is_sent(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any]
) -> None:
    """Every peer of the machine is looked at, and the administrators hear once."""
    script = {"status": ok(samples["status"]), "doctor": ok([])}
    peers = [start_peer(script, name) for name in ("one", "two")]
    run("doctor", "--notify")
    asked = [request["arguments"] for peer in peers for request in peer.requests]
    assert asked == [{}, {"notify": True}, {}, {}]


def test_a_notice_needs_a_peer(run: Run) -> None:
    """Nobody else knows how: that none runs is then a problem."""
    result = run("doctor", "--notify")
    (line,) = [line for line in result.stdout.splitlines() if "no peer answers" in line]
    assert (result.exit_code, line.split()[0]) == (1, "problem")


def test_doctor_without_a_peer_has_a_note(run: Run) -> None:
    """That nobody runs is neither well nor wrong."""
    (line,) = [line for line in run("doctor").stdout.splitlines() if "no peer answers" in line]
    assert line.startswith("--")


def test_doctor_in_a_container_without_a_peer_finds_a_problem(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, somebody has started one: it does not answer yet, or no more."""
    monkeypatch.setenv("GRAPEVINE_PEER_CONTAINER", "wixpfr9y2tnxagpea17qaauhg")
    result = run("doctor")
    (line,) = [line for line in result.stdout.splitlines() if "no peer answers" in line]
    assert (result.exit_code, line.split()[0]) == (1, "problem")
    assert "read its container's log" in " ".join(result.stdout.split())


def test_the_short_help_of_a_peer() -> None:
    """`peer -h` works as `peerctl -h` does."""
    assert CliRunner().invoke(peer_main, ["-h"]).exit_code == 0


def test_retry_says_who_asked(run: Run, start_peer: StartPeer, samples: Mapping[str, Any]) -> None:
    """Without a reason, at least the person is recorded."""
    peer = start_peer({"retry": ok(samples["task"](state="queued"))})
    result = run("retry", "3f2a")
    assert peer.requests[-1]["arguments"]["reason"].startswith("asked for ")
    assert result.stdout == "holiday.mp4 (3f2a1b2c) is queued.\n"


def test_drain_needs_one_peer(run: Run, start_peer: StartPeer) -> None:
    """With several peers, draining the first one found would be a guess."""
    said = ok({"uid": "00000000000000aa", "name": "two", "own": True})
    peers = [start_peer({"drain": said, "resume": said}, name) for name in ("one", "two")]
    result = run("drain")
    assert result.exit_code == 2
    assert "say which one: one, two" in result.stderr
    assert run("drain", "--peer", "two").stdout == (
        "two finishes what it has and takes no more work.\n"
    )
    assert run("drain", "two", "--undo").stdout == "two takes work again.\n"
    assert run("resume", "two").stdout == "two takes work again.\n"
    assert [[request["command"] for request in peer.requests] for peer in peers] == [
        ["resume", "resume"],
        ["drain"],
    ]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_all_outputs_are_asked_for(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], as_json: list[str]
) -> None:
    """Segments are told as a sum, and one by one only to those who want them."""
    segment = {"rendition": "720p", "files": 2, "size": 9, "media": {}, "url": "/data/hls/"}
    files = [samples["output"] | {"kind": "segment", "name": f"{n}.m4s"} for n in range(3)]
    start_peer(
        {
            "task": ok(samples["task"](segments=[segment])),
            "outputs": ok({"files": 3}, files[:2], files[2:]),
        }
    )
    summed, whole = run("task", "3f", *as_json), run("task", "3f", "--all-outputs", *as_json)
    assert (summed.exit_code, whole.exit_code) == (0, 0)
    if as_json:
        assert json.loads(summed.stdout)["segments"] == [segment]
        assert json.loads(whole.stdout)["outputs"] == files
        assert json.loads(whole.stdout)["segments"] == []
    else:
        assert "in 2 files" in summed.stdout
        assert "2.m4s" not in summed.stdout
        assert "2.m4s" in whole.stdout
        assert "in 2 files" not in whole.stdout


def test_an_incompatible_peer_is_said(run: Run, start_peer: StartPeer) -> None:
    """An answer of another shape is one sentence, not a traceback."""
    start_peer({"tasks": ok([{"id": 7}])})
    result = run("tasks")
    assert result.exit_code == 1
    assert "is not what this peerctl understands" in result.stderr


@pytest.mark.parametrize("state", [None, "escalated"])
def test_nothing_to_list(run: Run, start_peer: StartPeer, state: str | None) -> None:
    """An empty list says what to do next."""
    start_peer({"tasks": ok([]), "escalations": ok([])})
    result = run("tasks", *(["--state", state] if state else []))
    assert result.stdout == (
        f"There are no {f'{state} ' if state else ''}tasks. Hand one in: peerctl submit VIDEO\n"
    )
    assert run("escalations").stdout == "No task waits for a person.\n"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(run: Run, shell: str) -> None:
    """The script is one that the shell itself accepts where it is installed, and names us."""
    script = run("completion", shell).stdout
    assert "_PEERCTL_COMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_ids_are_completed(
    run: Run,
    start_peer: StartPeer,
    samples: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The shell is offered the ids of tasks; without a peer it is offered nothing, silently."""
    monkeypatch.setenv("_PEERCTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "peerctl task 3f")
    monkeypatch.setenv("COMP_CWORD", "2")
    command = [sys.executable, "-m", "peer.cli"]
    silent = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (silent.stdout.strip(), silent.stderr) == ("", "")
    start_peer({"tasks": ok([samples["task"](), samples["task"](id="99")])})
    offered = subprocess.run(command, capture_output=True, text=True, check=True)
    assert offered.stdout == f"plain,{samples['task_id']}\n"


def test_the_import_budget() -> None:
    """`peerctl` starts without the libraries that only a peer, or only a table, needs."""
    heavy = "trio psycopg structlog rich psutil ffmpeg http.client asyncio"
    program = f"import sys, peer.cli; print(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"


def test_a_closed_pipe_is_no_traceback(
    start_peer: StartPeer, samples: Mapping[str, Any], tmp_path: Path
) -> None:
    """`peerctl events | head -1` ends quietly."""
    start_peer({"events": ok({}, *[samples["event"]] * 5000)})
    command = f"{sys.executable} -m peer.cli events --json --data-dir {tmp_path / 'data'} | head -1"
    piped = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert len(piped.stdout.splitlines()) == 1
    assert piped.stderr == ""
