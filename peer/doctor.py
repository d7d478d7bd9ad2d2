"""What can be wrong on this machine before any peer runs, and what to do about it.

Each check tries the thing itself, with the code the peer will use, instead of asking whether it
ought to work: a program is started, a file is written. What needs a peer's connections is the
running peer's own to check.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from peer.config import Config
from peer.paths import Places
from peer.protocol import Check
from peer.screen.words import size_text
from pipeline.errors import PipelineError
from pipeline.ledger.server_programs import choose_account, find_programs, run_as
from pipeline.media.confinement import Layer, attempt
from pipeline.media.tools import find_tools

FREE_BYTES_MIN = 2_000_000_000
"""A claim's workspace holds its source and all outputs at once; below this nothing real fits."""

CLOCK_BACK_S_MAX = 300.0
_FENCED = {
    Layer.CALLS: "the network and other processes",
    Layer.FILES: "other files",
}
BUILT = datetime(2025, 1, 1, tzinfo=UTC)
"""No peer can have been installed before this was written."""


def local_checks(config: Config) -> list[Check]:
    """Try everything once; takes about half a second."""
    checks = (
        ("ffmpeg", _ffmpeg),
        ("postgresql", _postgresql),
        ("data directory", _data_directory),
        ("disk", _disk),
        ("clock", _clock),
    )
    return [_try(name, check, config) for name, check in checks]


class Problem(Exception):
    """A check found something; `advice` says what to do about it."""

    def __init__(self, detail: str, advice: str) -> None:
        super().__init__(detail)
        self.advice = advice


def _try(name: str, check: Callable[[Config], str], config: Config) -> Check:
    try:
        return Check(check=name, ok=True, detail=check(config))
    except Problem as problem:
        return Check(check=name, ok=False, detail=str(problem), advice=problem.advice)


def _ffmpeg(config: Config) -> str:
    try:
        tools = find_tools(config.transcode.ffmpeg, config.transcode.ffprobe)
    except PipelineError as error:
        detail, _, advice = str(error).rpartition(": ")
        raise Problem(detail or str(error), advice) from error
    return f"{tools.version} at {tools.ffmpeg}, {_fence(config)}"


def _fence(config: Config) -> str:
    """What ffmpeg is kept from; a kernel that keeps it from less is no reason not to encode."""
    if not config.transcode.limits.fenced:
        return "kept from nothing (transcode.limits.fenced is false)"
    why = attempt()
    kept = [words for layer, words in _FENCED.items() if not why[layer]]
    open_ = [f"{words} ({why[layer]})" for layer, words in _FENCED.items() if why[layer]]
    return ", but ".join(
        f"{start} {' and from '.join(words)}"
        for start, words in (("kept from", kept), ("not kept from", open_))
        if words
    )


def _postgresql(config: Config) -> str:
    if config.ledger.url is not None:
        return "not needed here: ledger.url names a server"
    try:
        programs = find_programs(config.ledger.postgres, None)
    except PipelineError as error:
        detail, _, advice = str(error).rpartition(": ")
        raise Problem(detail or str(error), advice) from error
    return f"version {programs.major} in {programs.directory}"


def _data_directory(config: Config) -> str:
    directory = config.peer.data_dir
    existing = _nearest_existing(directory)
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"grapevine")
    except OSError as error:
        raise Problem(
            f"cannot write to {existing}: {error.strerror}",
            "choose another directory with --data-dir, or become a user who may write there",
        ) from error
    if config.ledger.url is None:
        _check_server_can_enter(config.places.postgres)
    return f"{directory} can be written" + ("" if existing == directory else " (not there yet)")


def _check_server_can_enter(directory: Path) -> None:
    """PostgreSQL refuses to be root, so a root peer runs it as somebody who must get to its data.

    Tried by a program that runs as that account: the mode bits are not the whole truth.
    """
    existing = _nearest_existing(directory)
    try:
        account = choose_account(directory / "data")
        if account is None:
            return
        entered = run_as(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", existing])
    except (PipelineError, OSError, subprocess.SubprocessError) as error:
        raise Problem(str(error), "run the peer as another user") from error
    if entered.returncode != 0:
        raise Problem(
            f"root's PostgreSQL runs as {account.name}, who cannot enter {existing}",
            "choose a --data-dir that is not below a private directory, or run the peer as "
            "another user",
        )


def _disk(config: Config) -> str:
    free = shutil.disk_usage(_nearest_existing(config.peer.data_dir)).free
    said = f"{size_text(free)} free"
    if free < FREE_BYTES_MIN:
        raise Problem(
            f"only {said}",
            f"free at least {size_text(FREE_BYTES_MIN)}: a task needs room for its source and "
            "all its outputs",
        )
    return said


def _clock(config: Config) -> str:
    """A clock that went back is worse than one that is wrong: leases and epochs count on it."""
    now = time.time()
    newest = max([BUILT.timestamp(), *_epochs(config.places)])
    if now < newest - CLOCK_BACK_S_MAX:
        raise Problem(
            f"it says {_moment(now)}, but a peer has run here at {_moment(newest)}"
            if newest > BUILT.timestamp()
            else f"it says {_moment(now)}",
            "set the clock, and let it be kept right (timedatectl set-ntp true)",
        )
    return _moment(now)


def _epochs(places: Places) -> list[float]:
    """When peers were started here, as far as their identities tell."""
    found = []
    for file in (places.data_dir / "peers").glob("*/identity"):
        try:
            words = file.read_text().split()
        except (OSError, UnicodeDecodeError):
            continue
        if len(words) >= 2 and words[1].isdecimal():
            found.append(float(words[1]))
    return found


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _nearest_existing(directory: Path) -> Path:
    while not directory.is_dir() and directory != directory.parent:
        directory = directory.parent
    return directory
