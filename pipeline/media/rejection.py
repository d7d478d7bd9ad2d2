"""Why a source cannot be read, in one sentence, from what ffprobe said when it gave up.

ffprobe's own last line is nearly always "Invalid data found when processing input", which is true
of an empty file, of a text and of half a film. The line before it, and the file's own structure,
tell them apart.

Pure: a log and a layout in, a `SourceRejected` out.
"""

from __future__ import annotations

import re
import signal

from pipeline.errors import SourceRejected, StepError, TranscodeFailed
from pipeline.media.layout import Layout
from pipeline.media.limits import SourceLimits
from pipeline.media.process import Finished
from pipeline.shortage import KILLED, OUT_OF_MEMORY

_FORMAT = re.compile(r"\[([^\]@]+) @ [^\]]*\][^\n]*Format not on whitelist")
_CODEC = re.compile(r"Codec \(([^)]+)\) not on whitelist")
_PIXELS = re.compile(r"Picture size (\d+x\d+) exceeds specified max pixel count")
_LIST = re.compile(r"(not on whitelist) '[^']*'")
_LIST_CUT = re.compile(r"^[\w,-]{200,}'$", re.MULTILINE)
_PLACE = re.compile(r"(?<![^\s'\"])/(?:[^\n]*?/)?source(?![\w/-]|\.\w)")
"""The worker's workspaces call their source `source`; directories above may have blanks."""


def tidy_log(log: str) -> str:
    """A log without what says nothing to who reads it.

    That is our own lists of what is allowed, and the place of the source's copy, which is long
    gone by then: its name alone is left.
    """
    return _PLACE.sub("source", _LIST_CUT.sub("", _LIST.sub(r"\1", log))).strip()


def explain_unreadable(
    finished: Finished, layout: Layout | None, limits: SourceLimits
) -> StepError:
    """Say why ffprobe could not read a file that is not empty."""
    stopped = explain_stopped(finished, "looking at the source")
    if stopped is not None:
        return stopped
    log = tidy_log(finished.log)
    if rejected := too_many_pixels(log, limits):
        return rejected
    message, code = _refused(log, limits) or _cut_short(layout) or _NOT_MEDIA
    if code == "not_media" and "Cannot allocate memory" in log:
        return TranscodeFailed(
            "ffprobe ran out of memory while looking at the source; its limit is "
            f"{limits.memory_bytes} bytes.",
            code=OUT_OF_MEMORY,
            log_tail=log,
        )
    return SourceRejected(message, code=code, log_tail=log)


_NOT_MEDIA = ("The source is not a media file that ffmpeg can read.", "not_media")


def too_many_pixels(log: str, limits: SourceLimits) -> SourceRejected | None:
    """Where only the pictures tell their size, ffmpeg refuses them, and reports no size at all."""
    named = _PIXELS.search(log)
    if named is None:
        return None
    return SourceRejected(
        f"The picture has {named[1]} pixels, and {limits.pixels_max} pixels in all is the limit.",
        code="too_many_pixels",
        log_tail=log,
    )


def _refused(log: str, limits: SourceLimits) -> tuple[str, str] | None:
    """One of our own limits or lists said no."""
    if "exceeds max_streams" in log:
        return (
            f"The source has more than {limits.streams_max} streams, which is the limit.",
            "too_many_streams",
        )
    if named := _FORMAT.search(log):
        kind = named[1].removesuffix("_pipe")
        return (
            "The source is not a video file of a kind that is accepted: "
            f"ffmpeg takes it for {kind!r}.",
            "unsupported_format",
        )
    if named := _CODEC.search(log):
        return (
            f"The source holds a stream of the codec {named[1]!r}, which is not accepted.",
            "unsupported_codec",
        )
    return None


def _cut_short(layout: Layout | None) -> tuple[str, str] | None:
    """The structure shows a beginning without an end."""
    if layout is None:
        return None
    if layout.container == "mp4" and not layout.has_index:
        return (
            "The source is cut short: it begins as an MP4 file, but its index (the moov box) "
            "is missing, without which nothing of it can be read.",
            "truncated",
        )
    if layout.missing_bytes:
        return (
            f"The source is cut short: {layout.missing_bytes} of its {layout.declared_size} "
            "bytes are missing at the end, and nothing of the rest can be read.",
            "truncated",
        )
    return None


_STOPPED = {
    "wall": ("was stopped because it took longer than its limit", "time_limit"),
    "stall": ("was stopped because it stood still", "stalled"),
    "output": ("was stopped because it wrote too much", "output_limit"),
    -signal.SIGKILL: ("was killed, probably because this machine ran out of memory", KILLED),
    -signal.SIGXFSZ: (
        "was stopped because a file became larger than its limit",
        "output_limit",
    ),
}
"""Why a program did not end by itself: our reason for stopping it, or the signal's exit status."""


def explain_stopped(finished: Finished, doing: str) -> TranscodeFailed | None:
    """An error when a program was stopped from outside, or None when it ended by itself.

    Args:
        doing: What it did, to follow "while": `looking at the source`.
    """
    if finished.stopped_for is None and finished.returncode >= 0:
        return None
    what, code = _STOPPED.get(
        finished.stopped_for or finished.returncode,
        (f"was ended by signal {-finished.returncode}", KILLED),
    )
    log = tidy_log(finished.log)
    return TranscodeFailed(f"ffmpeg {what}, while {doing}.", code=code, log_tail=log)
