"""`peerctl demo` as a person runs it: real peers, the embedded server, ffmpeg, a terminal.

Whatever ends it (the work done, Ctrl-C, SIGTERM, kill -9), nothing of it may be left running, and
the next one must work.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peer.client import find_peer
from peer.errors import NoPeer, PeerError
from peer.paths import Places
from pipeline.media.tools import Tools, find_tools
from tests.e2e.left_behind import left, nothing_left_in, wait, words

pytestmark = pytest.mark.slow

LADDER = "320x180@300k,160x90@100k"
WITHIN_S = 120.0
GONE_WITHIN_S = 20.0


@pytest.fixture(scope="module")
def clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a small picture with a sound; long enough to be in the middle of."""
    path = tmp_path_factory.mktemp("clip") / "tiny.mp4"
    command = [
        str(tools.ffmpeg),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x180:rate=25",
    ]
    command += ["-f", "lavfi", "-i", "sine", "-t", "2", "-c:v", "libx264", "-preset", "ultrafast"]
    command += ["-pix_fmt", "yuv420p", "-c:a", "aac", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def long_clip(tools: Tools, clip: Path) -> Path:
    """The same clip a thousand times over: nobody sees the end of its encode in these tests."""
    path = clip.with_name("long.mp4")
    command = [
        str(tools.ffmpeg),
        "-v",
        "error",
        "-stream_loop",
        "1000",
        "-i",
        str(clip),
        "-c",
        "copy",
    ]
    subprocess.run([*command, str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def middling_clip(tools: Tools, clip: Path) -> Path:
    """The same clip often enough for a peer to be killed in the middle of it."""
    path = clip.with_name("middling.mp4")
    again = ["-v", "error", "-stream_loop", "120", "-i", str(clip), "-c", "copy", str(path)]
    subprocess.run([str(tools.ffmpeg), *again], check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """Where all demos of this file keep their data; a root's PostgreSQL must get in."""
    with nothing_left_in("grapevine-demo-", GONE_WITHIN_S) as directory:
        yield directory / "demo"


def _command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "peer.cli", "demo", *map(str, arguments)]


def _is_encoding(data_dir: Path) -> bool:
    """Whether a peer has an ffmpeg at work."""
    return any("libx264" in word for process in left(data_dir) for word in words(process))


def _state(data_dir: Path) -> list[str]:
    """What `peer` says of the tasks, newest first; nothing while nobody answers."""
    try:
        peer = find_peer(Places(data_dir), socket_path=None, name=None)
        return [task["state"] for task in peer.ask("tasks", limit=5)]
    except PeerError:
        return []


@pytest.fixture
def begin(data_dir: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Begin a demo and come back when it is in the middle of an encode."""
    begun: list[subprocess.Popen[str]] = []

    def begin(video: Path) -> subprocess.Popen[str]:
        demo = subprocess.Popen(
            _command(video, "--ladder", LADDER, "--data-dir", data_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun.append(demo)
        if not wait(lambda: demo.poll() is not None or _is_encoding(data_dir), WITHIN_S):
            pytest.fail(f"no encode was seen; tasks: {_state(data_dir)}")
        assert demo.poll() is None, demo.communicate()[0]
        return demo

    yield begin
    for demo in begun:
        demo.kill()
        demo.communicate()


def _check_outputs(text: str, data_dir: Path) -> None:
    """Each rendition is listed with a place where a video of its size lies."""
    for width, height in ((320, 180), (160, 90)):
        (place,) = re.findall(rf"\b{width}x{height} .* (/\S+/{height}p\.mp4)", text)
        assert Path(place).is_relative_to(data_dir)
        probe = subprocess.run(
            [find_tools().ffprobe, "-v", "error", "-of", "json", "-show_streams", place],
            capture_output=True,
            check=True,
        )
        streams = {stream["codec_type"]: stream for stream in json.loads(probe.stdout)["streams"]}
        assert (streams["video"]["width"], streams["video"]["height"]) == (width, height)
        assert "audio" in streams


def test_from_start_to_end(clip: Path, data_dir: Path) -> None:
    """Three peers take a video to its ladder; the log says so in lines, and nothing stays.

    It is the embedded default that is shown, whatever ledger this machine's peers use.
    """
    demo = subprocess.run(
        _command(clip, "--ladder", LADDER, "--data-dir", data_dir),
        env=os.environ | {"GRAPEVINE_LEDGER_URL": "postgresql://nowhere.invalid/x"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout
    assert not left(data_dir)
    assert "\x1b" not in demo.stdout
    for name in ("demo-1", "demo-2", "demo-3"):
        assert f"{name}: ready" in demo.stdout
        assert f"{name}: stopped" in demo.stdout
    assert re.search(r"^done in 0:\d\d: \d+ files, ", demo.stdout, re.MULTILINE)
    _check_outputs(demo.stdout, data_dir)
    kept = rf"kept in {data_dir} \([\d.]+ MB\); remove it when you like"
    assert re.fullmatch(kept, demo.stdout.splitlines()[-1])


def test_a_kill_and_what_follows(middling_clip: Path, data_dir: Path) -> None:
    """`--kill` kills the peer that works on it, and the exit code is 0 because all of it was seen:
    put back, taken over by another one, suspect, dead, finished."""
    demo = subprocess.run(
        _command(middling_clip, "--kill", "--ladder", LADDER, "--data-dir", data_dir),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout
    assert not left(data_dir)
    (name,) = re.findall(r"^(demo-\d): killed", demo.stdout, re.MULTILINE)
    told = demo.stdout.rpartition("remove it when you like\n")[2].splitlines()
    assert len(told) == 6
    times = [float(line.split()[0]) for line in told]
    assert times == sorted(times)
    assert f"{name} is killed" in told[0]
    at = {word: seconds for line, seconds in zip(told, times, strict=True) for word in line.split()}
    assert 5 < at["dead:"] < 30
    assert at["put"] <= at["takes"] < 30  # long before the lease of a minute
    (back,) = [line for line in told if "put back" in line]
    assert f"peer {name} " in back
    (end,) = [line for line in told if "has finished it" in line]
    assert name not in end
    _check_outputs(demo.stdout, data_dir)


# ffmpeg, of which nobody hears how far it is.
SILENT = """\
#!/bin/sh
for word in "$@"; do
    shift
    [ "$word" = -progress ] || [ "$word" = pipe:1 ] || set -- "$@" "$word"
done
exec {ffmpeg} "$@"
"""


def test_a_kill_that_comes_too_late_is_no_success(
    tools: Tools, clip: Path, data_dir: Path, tmp_path: Path
) -> None:
    """A video that is done before anybody could be killed shows nothing, and that is said. However
    slow the machine is, nobody is seen in the middle of this one."""
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text(SILENT.format(ffmpeg=shlex.quote(str(tools.ffmpeg))))
    ffmpeg.chmod(0o755)
    (tmp_path / "ffprobe").symlink_to(tools.ffprobe)
    demo = subprocess.run(
        _command(clip, "--kill", "--ladder", LADDER, "--data-dir", data_dir),
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert demo.returncode == 1, demo.stdout
    assert demo.stdout.endswith(
        "nobody was killed: the video was done too soon; give a longer one\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping(
    begin: Callable[[Path], subprocess.Popen[str]],
    long_clip: Path,
    data_dir: Path,
    number: signal.Signals,
) -> None:
    """Ctrl-C stops everything within seconds, and says so by the exit code.

    Until then a second demo in the same place is told that there is one, and leaves it alone.
    """
    demo = begin(long_clip)
    second = subprocess.run(
        _command(long_clip, "--data-dir", data_dir), capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert f"another demo is running in {data_dir}" in second.stderr
    assert second.stdout == ""
    assert demo.poll() is None
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=GONE_WITHIN_S)
    assert demo.returncode == 128 + number, output
    assert not left(data_dir)
    assert "Traceback" not in output
    assert output.endswith(": cancelled\nstopped; nothing was made\n")


def test_killed(
    begin: Callable[[Path], subprocess.Popen[str]], long_clip: Path, clip: Path, data_dir: Path
) -> None:
    """Peers, server and ffmpeg do not outlive a demo that is killed, and the next demo works."""
    begin(long_clip).kill()
    assert wait(lambda: not left(data_dir), GONE_WITHIN_S), left(data_dir)
    (killed,) = (data_dir / "demo.tasks").read_text().split()
    demo = subprocess.run(
        _command(clip, "--ladder", LADDER, "--data-dir", data_dir),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout
    assert "long.mp4" not in demo.stdout
    _check_outputs(demo.stdout, data_dir)
    assert killed not in (data_dir / "demo.tasks").read_text()


def test_a_peer_that_does_not_start_is_shown(clip: Path, data_dir: Path) -> None:
    """When a peer cannot start, its log's last lines are printed, and nothing stays."""
    data_dir = data_dir.with_name("broken")  # beside it, where the other two peers could start
    (data_dir / "peers").mkdir(parents=True)
    (data_dir / "peers" / "demo-2").write_text("a file where a directory should be")
    demo = subprocess.run(
        _command(clip, "--data-dir", data_dir),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert demo.returncode == 1
    assert "the peer demo-2 did not start" in demo.stderr
    assert str(data_dir / "logs" / "demo-2.log") in demo.stderr
    assert "cannot go on" in demo.stderr
    assert not left(data_dir)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--ladder", "frob"], 2, "ladder"),
        (["--config", "/no/such/file.toml"], 2, "cannot read the configuration"),
    ],
)
def test_what_is_wrong_is_said(
    clip: Path, data_dir: Path, arguments: list[str], code: int, sentence: str
) -> None:
    """A wrong argument ends in a sentence and its exit code, with nothing left running."""
    demo = subprocess.run(
        _command(clip, "--data-dir", data_dir, *arguments),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert demo.returncode == code
    assert sentence in demo.stderr
    assert not left(data_dir)


def test_a_video_that_is_none(data_dir: Path, tmp_path: Path) -> None:
    """A file that is no video ends in a readable cause and exit code 1."""
    text = tmp_path / "text.mp4"
    text.write_text("this is not a video")
    demo = subprocess.run(
        _command(text, "--data-dir", data_dir),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert demo.returncode == 1, demo.stdout
    assert "escalated text.mp4" in demo.stdout
    assert not left(data_dir)


def _on_terminal(command: list[str], *, columns: int, lines: int) -> tuple[int, str]:
    """Run a command on a terminal of that size; return its exit code and all it wrote."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=os.environ | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(follower)
    written = b""
    deadline = time.monotonic() + WITHIN_S
    try:
        while time.monotonic() < deadline:
            ready, _, _ = select.select([leader], [], [], 1.0)
            if not ready:
                continue
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # the last one who had the terminal open is gone
                break
            written += chunk
        return process.wait(timeout=10), written.decode()
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def test_on_a_terminal(clip: Path, data_dir: Path) -> None:
    """On a terminal of 80 by 24 the peers and the bars are drawn, and the list stays below them."""
    code, written = _on_terminal(
        _command(clip, "--ladder", LADDER, "--data-dir", data_dir), columns=80, lines=24
    )
    assert code == 0, written
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    drawn = [line for line in plain.replace("\r", "\n").split("\n") if line[:1] in "╭│╰"]
    assert max(map(len, drawn)) <= 80
    for word in ("peers", "demo-1", "ready", "tiny.mp4", "180p", "90p", "done in 0:"):
        assert word in plain
    with pytest.raises(NoPeer):
        find_peer(Places(data_dir), socket_path=None, name=None)
