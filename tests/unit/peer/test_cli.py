from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from peer.__main__ import main as peer_main
from peer.cli import main

Run = Callable[..., Result]


class FakePeer(Protocol):
    socket_path: Path
    requests: list[dict[str, Any]]


class StartPeer(Protocol):
    def __call__(self, script: Mapping[str, Any], name: str = "one") -> FakePeer: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `peerctl` with the fake peers' data directory, and with no setting of this machine."""
    config = tmp_path / "grapevine.toml"
    config.touch()
    monkeypatch.setenv("GRAPEVINE_CONFIG", str(config))
    monkeypatch.setenv("GRAPEVINE_PEER_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A file to hand in; nobody here looks into it."""
    path = tmp_path / "holiday.mp4"
    path.write_bytes(b"video")
    return path


def ok(data: Any, *items: Any) -> list[dict[str, Any]]:
    return [*({"item": item} for item in items), {"ok": True, "data": data}]


def refused(kind: str) -> list[dict[str, Any]]:
    return [{"ok": False, "error": "the sentence", "kind": kind}]


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
    if command == "keys":
        return  # a group of commands; each of them is looked at below
    has_json = "--json" in run(command, "--help").output
    assert has_json == (command not in ("demo", "completion"))


@pytest.mark.parametrize("command", ["list", "generate", "install", "use", "remove"])
def test_each_command_for_keys_has_json_and_an_example(run: Run, command: str) -> None:
    """The group's commands are as complete as the others."""
    result = run("keys", command, "--help")
    assert "--json" in result.output
    assert "Example:\n    peerctl keys" in result.output


def test_the_list_of_commands() -> None:
    """These are the commands of this issue; scripts and the documents count on them."""
    assert set(main.commands) == {
        *("demo", "submit", "tasks", "task", "escalations", "retry", "cancel"),
        *("events", "table", "status", "drain", "leave", "keys", "doctor", "completion"),
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
        ["drain"],
        ["drain", "two"],
        ["leave"],
        ["table"],
        ["table", "--watch"],
        ["keys", "list"],
        ["keys", "use", "3"],
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
        ("escalations", [], {"state": "escalated", "limit": 30}),
        ("retry", ["3f", "--reason", "space again"], {"id": "3f", "reason": "space again"}),
        ("cancel", ["3f", "--reason", "wrong file"], {"id": "3f", "reason": "wrong file"}),
        ("table", [], {}),
        ("drain", [], {"member": None}),
        ("drain", ["two"], {"member": "two"}),
        ("leave", ["two"], {"member": "two"}),
        ("keys", ["list"], {}),
    ],
)
def test_json_is_what_the_peer_said(
    run: Run, start_peer: StartPeer, command: str, arguments: list[str], asked: dict[str, Any]
) -> None:
    """`--json` prints the answer as it came, fields of newer peers included, as one document."""
    data = [{"anything": "at all", "ü": 1}]
    request = "tasks" if command == "escalations" else command
    peer = start_peer({request: ok(data)})
    result = run(command, *arguments, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == data
    assert peer.requests[-1] == {"command": request, "arguments": asked}


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
    for command in ("tasks", "escalations"):
        (told,) = json.loads(run(command, "--json").stdout)
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
    assert "takes no work until it is started again" in line


def test_doctor_without_a_peer_has_a_note(run: Run) -> None:
    """That nobody runs is neither well nor wrong."""
    (line,) = [line for line in run("doctor").stdout.splitlines() if "no peer answers" in line]
    assert line.startswith("--")


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
    assert [[request["command"] for request in peer.requests] for peer in peers] == [
        ["resume"],
        ["drain"],
    ]


def test_submit_hands_over_an_absolute_path(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path
) -> None:
    """The peer has another working directory; everything a person chose arrives."""
    peer = start_peer({"submit": ok({"task_id": "any"}, {"copied": 5, "size": 5})})
    result = run("submit", video)
    first = result.stdout.strip()
    assert UUID(first)
    assert peer.requests[-1]["arguments"] == {
        "task_id": first,
        "path": str(video),
        "ladder": "web",
        "strictness": "strict",
    }
    result = run("submit", video, "--ladder", "hls", "--lenient", "--attempts-max", "2", "--json")
    second = json.loads(result.stdout)["task_id"]
    assert second != first
    assert peer.requests[-1]["arguments"] == {
        "task_id": second,
        "path": str(video),
        "ladder": "hls",
        "strictness": "lenient",
        "attempts_max": 2,
    }


def test_submit_outlives_the_peer(run: Run, start_peer: StartPeer, video: Path) -> None:
    """When the peer dies in the middle of the copy, the same task is handed in once more."""
    asked: list[str] = []

    def submit(arguments: dict[str, Any]) -> Any:
        asked.append(arguments["task_id"])
        whole = ok({"task_id": asked[0]}, {"copied": 5, "size": 5})
        return whole[:1] if len(asked) == 1 else whole

    start_peer({"submit": submit})
    result = run("submit", video)
    assert (result.exit_code, result.stdout) == (0, f"{asked[0]}\n")
    assert asked == [asked[0]] * 2


def test_a_refused_submit_is_not_repeated(run: Run, start_peer: StartPeer, video: Path) -> None:
    """A no is an answer."""
    peer = start_peer({"submit": refused("failed")})
    assert run("submit", video).exit_code == 1
    assert len(peer.requests) == 1


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


def watched(samples: Mapping[str, Any], **end: Any) -> dict[str, Any]:
    """A script in which a task is handed in, makes progress, and ends."""
    task = samples["task"]
    running = task(state="running", progress=samples["progress"], finished_at=None)
    last = task(**end)
    return {
        "submit": ok({"task_id": samples["task_id"]}),
        "watch": ok(last, task(state="queued", holder=None), running, last),
        "task": ok(last | {"events": []}),
    }


def test_wait_until_done(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path
) -> None:
    """`--wait` tells of the progress in lines, lists the outputs with their places, and ends 0."""
    peer = start_peer(
        watched(samples, outputs=[samples["output"]], warnings=["3 frames are damaged"])
    )
    result = run("submit", video, "--wait")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "holiday.mp4: queued",
        "holiday.mp4: 45 % transcode, 450/1000 frames, 2.1x, 0:12 left "
        "(720p 45 %, 480p 45 %) on demo-1",
        "holiday.mp4: done",
        f"done {peer.requests[0]['arguments']['task_id']}",
        "warning: 3 frames are damaged",
        f"  720p.mp4  1280x720 h264  3.4 MB  {samples['output']['url']}",
    ]


@pytest.mark.parametrize("state", ["escalated", "cancelled"])
def test_wait_for_what_is_not_done(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path, state: str
) -> None:
    """A task that ends otherwise ends the command with 1, the cause, and what to type."""
    start_peer(watched(samples, state=state, error=samples["failure"]))
    result = run("submit", video, "--wait")
    assert result.exit_code == 1
    assert "The source is cut short." in result.stderr
    assert "moov atom not found" in result.stderr
    advice = "cancel 3f2a1b2c    and hand in another" if state == "escalated" else "retry 3f2a1b2c"
    assert f"peerctl {advice}" in result.stderr


def test_wait_with_json(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path
) -> None:
    """With `--json`, standard output holds the one document, and the progress goes elsewhere."""
    start_peer(watched(samples, outputs=[samples["output"]]))
    result = run("submit", video, "--wait", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["outputs"] == [samples["output"]]
    assert "holiday.mp4: queued" in result.stderr


def test_wait_outlives_the_peer(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path
) -> None:
    """When the peer that tells of the task dies, the next connection goes on with the watching."""
    script = watched(samples)
    whole, asked = script["watch"], []

    def watch(arguments: dict[str, Any]) -> Any:
        asked.append(arguments)
        return whole[:2] if len(asked) == 1 else whole

    start_peer(script | {"watch": watch})
    assert run("submit", video, "--wait").exit_code == 0
    assert asked == [asked[0]] * 2


def test_ctrl_c_leaves_the_task_alone(
    start_peer: StartPeer, samples: Mapping[str, Any], video: Path, tmp_path: Path
) -> None:
    """Ctrl-C ends the waiting with 130, and says that only the waiting has ended."""
    task = samples["task"](state="queued")
    asked, over = threading.Event(), threading.Event()

    def watch(_: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"item": task}
        asked.set()
        over.wait()

    start_peer({"submit": ok({"task_id": samples["task_id"]}), "watch": watch})
    command = [sys.executable, "-m", "peer.cli", "submit", str(video), "--wait"]
    waiting = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert asked.wait(timeout=20)
        assert waiting.stdout
        assert waiting.stdout.readline() == "holiday.mp4: queued\n"
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=20)
    finally:
        over.set()
        waiting.kill()
        waiting.communicate()
    assert waiting.returncode == 130
    assert re.fullmatch("The task goes on. Look at it: peerctl task [0-9a-f]{8}\n", errors)


def test_an_incompatible_peer_is_said(run: Run, start_peer: StartPeer) -> None:
    """An answer of another shape is one sentence, not a traceback."""
    start_peer({"tasks": ok([{"id": 7}])})
    result = run("tasks")
    assert result.exit_code == 1
    assert "is not what this peerctl understands" in result.stderr


@pytest.mark.parametrize("state", [None, "escalated"])
def test_nothing_to_list(run: Run, start_peer: StartPeer, state: str | None) -> None:
    """An empty list says what to do next."""
    start_peer({"tasks": ok([])})
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
