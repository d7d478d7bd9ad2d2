"""The fence, from inside: a program that has been taken over tries what there is to try.

The program is a few lines of Python in ffmpeg's place, run as the transcoder runs ffmpeg. As root,
where the tests run as root: so nothing but the fence can be what stops it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.media.confinement import Layer, attempt
from pipeline.media.confinement.calls import (
    ARCHITECTURES,
    CLONE,
    CLONE3,
    OWN_ONLY,
    REFUSED,
    program,
)
from pipeline.media.limits import ProcessLimits
from pipeline.media.process import run
from tests.e2e.fence import demand_fence

LIMITS = ProcessLimits(wall_s=30.0)
SECRET = b"the database's password"

TRIES = """
import ctypes, errno, json, os, platform, signal, socket, sys
given = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
def connect(family, address):
    with socket.socket(family) as one:
        one.connect(address)
def fork_into(flags):
    if libc.syscall(given["clone"], flags | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)
    raise OSError(ctypes.get_errno(), "refused")
tries = {
    "read a secret": lambda: open(given["secret"]).read(),
    "read another task's source": lambda: open(given["neighbour"] + "/source").read(),
    "list another task's workspace": lambda: os.listdir(given["neighbour"]),
    "write to another task's workspace": lambda: open(given["neighbour"] + "/new", "w"),
    "change its own source": lambda: open(given["source"], "r+"),
    "remove another task's source": lambda: os.unlink(given["neighbour"] + "/source"),
    "link to a secret": lambda: os.link(given["secret"], "link"),
    "read the peer's environment": lambda: open(f"/proc/{given['peer']}/environ").read(),
    "read the peer's memory": lambda: open(f"/proc/{given['peer']}/mem", "rb"),
    "take the peer's files": lambda: os.listdir(f"/proc/{given['peer']}/fd"),
    "connect by TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", given["port"])),
    "connect to the control socket": lambda: connect(socket.AF_UNIX, given["control"]),
    "send a datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "make a pair of sockets": lambda: socket.socketpair(),
    "end the peer": lambda: os.kill(given["peer"], 0),
    "trace the peer": lambda: call(given["ptrace"], 16, given["peer"], 0, 0),
    "limit the peer": lambda: call(given["prlimit"], given["peer"], 7, 0, 0),
    "make a user namespace": lambda: fork_into(0x10000000),
}
found = {}
for what, do in tries.items():
    try:
        do()
    except OSError as error:
        found[what] = errno.errorcode[error.errno]
    else:
        found[what] = "done"
for name, number in given["calls"].items():
    try:
        call(number, -1, -1, -1, -1, -1)
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
    else:
        found[name] = "done"
# What it must be able to do.
assert open(given["source"]).read() == "a video"
os.mkdir("hls")
with open("hls/playlist.tmp", "w") as made:
    made.write("x" * 10000)
os.rename("hls/playlist.tmp", "hls/playlist")
os.truncate("hls/playlist", 10)
with open("/dev/null", "r+b") as null:
    null.write(b"x")
libc.syscall(given["prlimit"], 0, 7, 0, 0) == 0 or sys.exit("own limits")
if os.fork() == 0:
    os._exit(7)
found["its own child"] = os.waitstatus_to_exitcode(os.wait()[1])
print(json.dumps(found))
"""


@pytest.fixture
def listening() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server by TCP, and one by a socket in a directory; nobody may call either."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        yield tcp, unix


async def test_a_program_that_was_taken_over_reaches_nobody(
    tmp_path: Path, listening: tuple[socket.socket, socket.socket]
) -> None:
    """Not the secrets, not another task's files, not the network, not the control socket, not the
    peer's memory; its own source can be read and its own directory used."""
    demand_fence()
    tcp, unix = listening
    neighbour, workspace = tmp_path / "neighbour", tmp_path / "workspace"
    output = workspace / "output"
    for directory in (neighbour, output):
        directory.mkdir(parents=True)
    secret, source = tmp_path / "ledger_url", workspace / "source"
    secret.write_bytes(SECRET)
    source.write_text("a video")
    (neighbour / "source").write_text("another video")
    unix.bind(str(tmp_path / "control.sock"))
    unix.listen()
    column = ARCHITECTURES[os.uname().machine].column
    given = {
        "secret": str(secret),
        "neighbour": str(neighbour),
        "source": str(source),
        "control": str(tmp_path / "control.sock"),
        "port": tcp.getsockname()[1],
        "peer": os.getpid(),
        "ptrace": REFUSED["ptrace"][column],
        "prlimit": OWN_ONLY["prlimit64"][column],
        "clone": CLONE[column],
        "calls": {name: numbers[column] for name, numbers in REFUSED.items()},
    }
    finished = await run(
        [sys.executable, "-I", "-S", "-c", TRIES, json.dumps(given)],
        cwd=output,
        limits=LIMITS,
        reads=[source],
    )
    assert (finished.returncode, finished.log) == (0, "")
    found = json.loads(finished.stdout)
    assert found.pop("its own child") == 7
    assert found.pop("link to a secret") == "EXDEV"
    assert set(found.values()) == {"EACCES", "EPERM"}, found
    assert SECRET.decode() not in finished.stdout.decode()
    for server in listening:
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_the_fence_can_be_left_away(tmp_path: Path) -> None:
    """For a script in ffmpeg's place that needs more; then, and only then, other files are open."""
    demand_fence()
    outside, workspace = tmp_path / "outside", tmp_path / "workspace"
    outside.write_text("more")
    workspace.mkdir()
    arguments = ["/bin/cat", str(outside)]
    assert (await run(arguments, cwd=workspace, limits=LIMITS)).returncode == 1
    unfenced = replace(LIMITS, fenced=False)
    assert (await run(arguments, cwd=workspace, limits=unfenced)).stdout == b"more"


async def test_a_script_and_the_program_behind_it_run(tmp_path: Path) -> None:
    """A program may lie anywhere, be a link, and bring its libraries along."""
    home, workspace = tmp_path / "tool/bin", tmp_path / "workspace"
    library = tmp_path / "tool/lib/words"
    for directory in (home, library.parent, workspace):
        directory.mkdir(parents=True)
    library.write_text("from a library\n")
    script = home / "tool-1.2"
    script.write_text(f'#!/bin/sh\nexec cat "{library}"\n')
    script.chmod(0o755)
    link = tmp_path / "tool-link"
    link.symlink_to(script)
    finished = await run([str(link)], cwd=workspace, limits=LIMITS)
    assert (finished.log, finished.stdout) == ("", b"from a library\n")


async def test_the_peer_itself_stays_free(tmp_path: Path) -> None:
    """Whatever was started behind the fence, this process opens, connects and collects as before,
    and no thread is left; those of trio that were idle before may have ended meanwhile."""
    before = set(threading.enumerate())
    for _ in range(20):
        await run(["/bin/true"], cwd=tmp_path, limits=LIMITS)
    assert set(threading.enumerate()) <= before
    (tmp_path / "own").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_what_a_kernel_lacks_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Landlock is missing the calls are refused all the same, and the reason can be read."""
    demand_fence()
    assert attempt() == {Layer.CALLS: "", Layer.FILES: ""}

    def missing() -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("pipeline.media.confinement.files.version", missing)
    assert attempt() == {Layer.CALLS: "", Layer.FILES: "Function not implemented"}
    monkeypatch.setattr("platform.machine", lambda: "m68k")
    assert attempt()[Layer.CALLS] == "the system calls of m68k are not known"


async def test_without_one_layer_the_other_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an old kernel programs run, and make no connection."""
    demand_fence()

    def missing() -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("pipeline.media.confinement.files.version", missing)
    tries = "import socket; socket.socket()"
    finished = await run([sys.executable, "-S", "-c", tries], cwd=tmp_path, limits=LIMITS)
    assert "PermissionError" in finished.log


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_filter_is_one_that_a_kernel_takes(name: str) -> None:
    """Whole instructions, fewer than are allowed, each jump within them, and an end at the end."""
    lines = program(ARCHITECTURES[name])
    count, rest = divmod(len(lines), 8)
    assert rest == 0
    assert count < 4096
    for at in range(count):
        code, yes, no = lines[at * 8], lines[at * 8 + 2], lines[at * 8 + 3]
        if code & 0x07 == 0x05:
            assert at + 1 + max(yes, no) < count
    assert lines[-8] == 0x06
    numbers = [*REFUSED.values(), *OWN_ONLY.values(), CLONE, CLONE3]
    for column in (0, 1):
        assert len({pair[column] for pair in numbers}) == len(numbers)
