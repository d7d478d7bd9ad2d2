"""A source that is damaged inside: whether it is, where it begins, and how to say so.

ffmpeg decodes nonsense into grey blocks, repeats pictures, leaves some out, and exits with 0. What
gives it away are the decoders' error lines (`complaints`). When there are some, the source is
decoded once more up to the first error, so that a person who looks at it knows where to look; that
costs a tenth of the encode at most, and only for a source that is damaged.

A file that was cut out of a longer one without encoding may begin with pictures that refer to
something that is not there. That is how recordings begin, and no damage.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.media.complaints import Complaints
from pipeline.media.config import TranscodeConfig
from pipeline.media.index import PacketIndex
from pipeline.media.inspector import QUIET, Inspected
from pipeline.media.limits import as_arguments, input_guard, inspecting, transcoding
from pipeline.media.probe import describe_duration
from pipeline.media.process import run
from pipeline.media.tools import Tools
from pipeline.ports import Order

COMPLAINTS_PER_LEADING_PICTURE = 6
"""An H.264 decoder says up to so much about one picture whose references are missing."""
CUT_START_S = 1.0
"""How far behind the first key frame such a complaint may still come: a decoder reorders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What a person is told, and what finding it out took.

    Args:
        first_s: Where the first error is, on the output's clock; None where it was not met again.
    """

    sentence: str
    first_s: float | None
    cpu_seconds: float


def is_cut_start(found: Damage, complaints: Complaints, index: PacketIndex) -> bool:
    """Whether the complaints are about the pictures before the first key frame, and only those."""
    if not index.leading:
        return False
    begins_s = (index.keyframes[0] if index.keyframes else index.end_s) - index.first_s
    few = complaints.source_errors <= COMPLAINTS_PER_LEADING_PICTURE * index.leading
    return few and (found.first_s is None or found.first_s <= begins_s + CUT_START_S)


async def locate(
    order: Order,
    looked: Inspected,
    complaints: Complaints,
    tools: Tools,
    config: TranscodeConfig,
) -> Damage:
    """Decode up to the first error and say where it is."""
    last = _LastTime()
    source, plan = looked.source, looked.plan
    streams = [plan.video_index, *(track.source_index for track in plan.tracks)]
    mapped = [word for stream in streams for word in ("-map", f"0:{stream}")]
    finished = await run(
        [
            *(str(tools.ffmpeg), "-nostdin", *QUIET, "-xerror", "-threads", "1"),
            *(*as_arguments(input_guard(config.limits)), "-i", str(order.source)),
            *(*mapped, "-fps_mode", "passthrough", "-f", "framecrc", "-"),
        ],
        cwd=order.output,
        reads=[order.source],
        limits=inspecting(config.limits),
        on_stdout=last.feed,
    )
    count = complaints.source_errors
    is_met = finished.returncode != 0 and finished.stopped_for is None
    where = f", the first around {describe_duration(last.time_s)}" if is_met else ""
    errors = "1 error" if count == 1 else f"{count} errors"
    example = f" ({complaints.examples[0]})" if complaints.examples else ""
    return Damage(
        sentence=(
            f"The source is damaged: decoding its {source.video.codec} video and its audio gave "
            f"{errors}{where}{example}."
        ),
        first_s=last.time_s if is_met else None,
        cpu_seconds=finished.cpu_seconds,
    )


async def count_decodable(
    order: Order, looked: Inspected, tools: Tools, config: TranscodeConfig
) -> tuple[int | None, float]:
    """Decode the video once more with ffprobe, to nowhere, and count its pictures.

    A packet that gives no picture is not always a fault: a decoder may drop one in silence where
    a stream was spliced.

    Returns:
        The count, None when it could not be had; and the CPU seconds it took.
    """
    finished = await run(
        [
            *(str(tools.ffprobe), *QUIET, *as_arguments(input_guard(config.limits))),
            *("-select_streams", str(looked.plan.video_index), "-count_frames"),
            *("-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", str(order.source)),
        ],
        cwd=order.output,
        reads=[order.source],
        limits=transcoding(config.limits, duration_s=looked.index.duration_s, bitrate=0),
    )
    # A transport stream lists its streams twice, once under its program.
    told = finished.stdout.split()
    is_count = finished.returncode == 0 and bool(told) and told[0].isdigit()
    return int(told[0]) if is_count else None, finished.cpu_seconds


def describe_gaps(index: PacketIndex, made: int, *, is_incomplete: bool) -> tuple[str, ...]:
    """Warnings about pictures that the source lists and no decoder could give."""
    missing = index.frames - made
    if missing <= 0:
        return ()
    pictures = "1 frame" if missing == 1 else f"{missing} frames"
    if index.leading:
        return (
            f"The source starts in the middle of a group of pictures; its first {pictures} "
            "cannot be decoded and are left out.",
        )
    if is_incomplete:
        return (f"Of {index.frames} frames {pictures} could not be decoded or shown.",)
    return ()


class _LastTime:
    """How far `framecrc` has come: lines of `stream, dts, pts, …` after `#tb 0: 1/25` headers."""

    def __init__(self) -> None:
        self._rest = b""
        self._ticks: dict[bytes, float] = {}
        self.time_s = 0.0

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"#tb "):
                stream, _, ratio = line[4:].partition(b":")
                over, _, under = ratio.strip().partition(b"/")
                if over.isdigit() and under.isdigit() and int(under):
                    self._ticks[stream] = int(over) / int(under)
            elif not line.startswith(b"#"):
                fields = line.split(b",")
                time = fields[2].strip() if len(fields) > 2 else b""
                if time.isdigit():
                    tick_s = self._ticks.get(fields[0], 0.0)
                    self.time_s = max(self.time_s, int(time) * tick_s)
