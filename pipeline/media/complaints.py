"""What ffmpeg and ffprobe complain about, line by line: whose fault it is, and how often.

ffmpeg goes on over damage and exits with 0, so its error lines are the only witness of a picture
that was decoded from nonsense. With `-loglevel level+error` each line names who speaks and how
bad it is: `[h264 @ 0x55d5] [error] error while decoding MB 11 18`. Decoders and demuxers speak of
the *source*; encoders, muxers and filters speak of our work. The names differ a little between
releases (8 writes `[in#0/mov,mp4 @ …]` where 5 writes `[mov,mp4 @ …]`), the messages do not.

A few messages of the error level say nothing about the picture. They are listed, with what they
mean; everything else that a decoder calls an error counts as damage.

Pure: lines in, counts out, in bounded memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.media.probe import SourceInfo

EXAMPLES_MAX = 5

_LINE = re.compile(
    r"(?P<contexts>(?:\[[^\]]* @ [^\]]*\] ?)*)\[(?P<level>panic|fatal|error)\] (?P<message>.*)"
)
_CONTEXT = re.compile(r"\[([^\]]*?) @ ")
_REPEATED = re.compile(r"\s*(?:\[\w+\]\s*)?Last message repeated (\d+) times")

DECODERS = {
    "mp3": "mp3float",
    "mp2": "mp2float",
    "mp1": "mp1float",
    "flv1": "flv",
    "dts": "dca",
    "msmpeg4v3": "msmpeg4",
    "amr_nb": "amrnb",
    "amr_wb": "amrwb",
    "av1": "libdav1d",
    "vp6": "vp6f",
}
"""Codecs whose decoder goes by another name."""

BENIGN = tuple(
    re.compile(pattern)
    for pattern in (
        # A spliced or seeked-into stream refers to pictures that are not in the file.
        r"mmco: unref short failure",
        r"number of reference frames \(.*\) exceeds max",
        # Metadata inside a JPEG picture.
        r"unable to decode APP fields",
        # An MP3 stream that starts in the middle of its bit reservoir, or ends in a tag.
        r"invalid new backstep",
        r"Header missing",
        # The last audio frame of a capture is rarely whole.
        r"incomplete frame",
        # A timestamp is repaired on its way; the pictures are whole.
        r"non.monoton",
        # A stream that is not used.
        r"Could not find codec parameters",
        r"Unsupported codec with id",
    )
)
TRUNCATION = (": partial file", "File ended prematurely")
"""What the readers of MP4 and Matroska say when the file ends inside a packet."""


@dataclass(slots=True)
class Complaints:
    """Counts what was complained about.

    Args:
        speakers: The names under which decoders and demuxers of this source speak.
        source_errors: How often one of them reported an error that is not benign.
        truncated: One of them said that the file ends too early.
        disk_full, out_of_memory, file_too_large: Something else said so.
        examples: The first few messages about the source.
    """

    speakers: frozenset[str]
    source_errors: int = 0
    truncated: bool = False
    disk_full: bool = False
    out_of_memory: bool = False
    file_too_large: bool = False
    examples: list[str] = field(default_factory=list)
    _last_counted: bool = False

    def take(self, line: str) -> None:
        """Take one line of standard error."""
        if repeated := _REPEATED.match(line):
            self.source_errors += int(repeated[1]) if self._last_counted else 0
            return
        self._last_counted = False
        parts = _LINE.match(line)
        if parts is None:
            return
        message = parts["message"]
        self.disk_full |= "No space left on device" in message
        self.out_of_memory |= "Cannot allocate memory" in message or "malloc of size" in message
        self.file_too_large |= "File too large" in message
        if not self._is_about_source(_CONTEXT.findall(parts["contexts"]), message):
            return
        if any(mark in message for mark in TRUNCATION):
            self.truncated = True  # told apart: the rest of such a file may be whole
            return
        if any(pattern.search(message) for pattern in BENIGN):
            return
        self._last_counted = True
        self.source_errors += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(message)

    def _is_about_source(self, contexts: Iterable[str], message: str) -> bool:
        names = list(contexts)
        if not names:  # release 5 writes its own summary of a decoder's failure without a name
            return message.startswith("Error while decoding stream")
        return any(
            name in self.speakers or name.startswith(("in#", "vist#", "aist#", "dec:"))
            for name in names
        )


def speakers_of(source: SourceInfo | None) -> frozenset[str]:
    """Under which names the decoders and the demuxer of a source speak; parsers are `NULL`.

    Without a source, as when it is looked at for the first time, only the parsers are known.
    """
    if source is None:
        return frozenset({"NULL"})
    codecs = {source.video.codec, *(track.codec for track in source.audio)}
    decoders = {DECODERS[codec] for codec in codecs if codec in DECODERS}
    return frozenset({"NULL", source.format_name, *codecs, *decoders})
