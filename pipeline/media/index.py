"""The packet index: what can really be read of a file, packet by packet, without decoding it.

A container's header is a promise. Reading every packet once costs about a thousandth of an encode
and says how many pictures there are, when each is shown, and where the key frames stand. That is
what the source's promise is held against before the work, and every output after it.

ffprobe writes one line a packet. They are taken as they come, and of all streams but the video only
the ends are kept, so that a film of three hours takes 4 MB and not 400.

Pure: ffprobe's lines in, numbers out.
"""

from __future__ import annotations

import bisect
import math
import statistics
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

PACKET_FIELDS = "packet=stream_index,pts_time,dts_time,duration_time,size,flags"
"""ffprobe's -show_entries; it writes the fields in its own order, which is this one."""

FRAME_S_UNKNOWN = 0.04
"""How long a lone picture without any duration is taken to be shown."""
SAMPLE_FRAMES = 2000
CROWDED_SHARE = 0.6
"""Of the usual interval: two streams that overlap are half an interval apart at most."""
GRID_EPSILON = 1e-5
"""Of an interval: a picture this close to the next one belongs to it. Far below a frame, and far
above what a time loses by being written with six digits."""


def packet_arguments() -> list[str]:
    """The options that make ffprobe write what `PacketReader` reads."""
    return ["-show_entries", PACKET_FIELDS, "-of", "compact=p=0:nk=1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpan:
    """From where to where a stream goes, on the file's clock.

    Args:
        packets: Those that are not empty and are meant to be shown or heard.
        first_s: None when no packet has a time.
        end_s: The end of the last packet.
    """

    packets: int
    first_s: float | None
    end_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketIndex:
    """What the packets of a file say.

    Args:
        times: When each picture is shown, in seconds, rising. One for each packet that is meant to
            be shown; packets that an edit list leaves out are not here.
        keyframes: The times of the key frames among them, rising.
        end_s: When the last picture ends.
        leading: Pictures before the first one that can be decoded by itself: a file that was cut
            out of a longer one starts with some, and a decoder may leave them out in silence.
        without_time: Video packets without a presentation time, as AVI has them; the decoding time
            stands in for it, so that `times` are not exact.
        empty: Video packets without content, which stand for "the same picture again".
        corrupt: Packets that the reader of the container knows to be damaged.
        spans: Every stream by its index.
    """

    times: array[float]
    keyframes: array[float]
    end_s: float
    leading: int
    without_time: int
    empty: int
    corrupt: int
    spans: Mapping[int, StreamSpan]

    @property
    def frames(self) -> int:
        """How many pictures should come out of the decoder."""
        return len(self.times)

    @property
    def first_s(self) -> float:
        """The first picture's time; 0 when there is none."""
        return self.times[0] if self.times else 0.0

    @property
    def duration_s(self) -> float:
        """From the first picture to the end of the last."""
        return max(0.0, self.end_s - self.first_s)

    @property
    def crowded(self) -> int:
        """How many pictures stand closer to the one before them than pictures here usually do.

        Where two recordings overlap in time, as in a spliced transport stream, ffmpeg leaves some
        of these out: there is no time left to show them.
        """
        close_s = CROWDED_SHARE * (frame_interval(self.times) or 0.0)
        return sum(later - earlier < close_s for earlier, later in pairwise(self.times))

    @property
    def end_of_all_s(self) -> float:
        """Where the longest stream ends."""
        ends = [span.end_s for span in self.spans.values() if span.end_s is not None]
        return max([self.end_s, *ends])


class PacketReader:
    """Takes ffprobe's output in pieces of any size.

    Args:
        video: The index of the video stream whose every packet counts.
        times_max: More pictures than that are not believed; `overflowed` is set, and the rest is
            not kept.
    """

    def __init__(self, video: int, *, times_max: int = 50_000_000) -> None:
        self._video = b"%d" % video
        self._times_max = times_max
        self._rest = b""
        self._times: array[float] = array("d")
        self._keyframes: array[float] = array("d")
        self._spans: dict[bytes, _Span] = {}
        self._last: tuple[float, float] = (-math.inf, 0.0)
        self._key_time = math.nan
        self._key_seen = 0
        self._leading = 0
        self._without_time = 0
        self._empty = 0
        self._corrupt = 0
        self.overflowed = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            fields = line.split(b"|")
            if len(fields) >= 6:
                self._take(fields)

    def finish(self) -> PacketIndex:
        """Everything was fed."""
        if self._rest:
            self.feed(b"\n")
        times = array("d", sorted(self._times))
        last_s, last_duration_s = self._last
        if not last_duration_s:
            last_duration_s = frame_interval(times) or FRAME_S_UNKNOWN
        return PacketIndex(
            times=times,
            keyframes=array("d", sorted(self._keyframes)),
            end_s=last_s + last_duration_s if times else 0.0,
            leading=self._leading,
            without_time=self._without_time,
            empty=self._empty,
            corrupt=self._corrupt,
            spans={
                int(stream): StreamSpan(
                    packets=span.packets,
                    first_s=None if math.isinf(span.first_s) else span.first_s,
                    end_s=None if math.isinf(span.end_s) else span.end_s,
                )
                for stream, span in self._spans.items()
            },
        )

    def _take(self, fields: list[bytes]) -> None:
        stream, presented, decoded, lasting, size, flags = fields[:6]
        if b"C" in flags:
            self._corrupt += 1
        if b"D" in flags:
            return
        time_s = _seconds(presented)
        is_video = stream == self._video
        if time_s is None:
            time_s = _seconds(decoded)
            self._without_time += is_video
        duration_s = _seconds(lasting) or 0.0
        span = self._spans.get(stream)
        if span is None:
            if not stream.isdigit():
                return
            span = self._spans[stream] = _Span()
        if size == b"0":
            self._empty += is_video
            return
        span.packets += 1
        if time_s is not None:
            span.first_s = min(span.first_s, time_s)
            span.end_s = max(span.end_s, time_s + duration_s)
        if is_video:
            self._take_picture(time_s, duration_s, is_key=b"K" in flags)

    def _take_picture(self, time_s: float | None, duration_s: float, *, is_key: bool) -> None:
        if len(self._times) >= self._times_max:
            self.overflowed = True
            return
        if time_s is None:  # neither time: the decoder will guess, and so does this
            time_s = self._last[0] + (self._last[1] or FRAME_S_UNKNOWN) if self._times else 0.0
        self._times.append(time_s)
        if is_key:
            self._keyframes.append(time_s)
            self._key_seen += 1
            if self._key_seen == 1:
                self._key_time = time_s
        elif self._key_seen == 0 or (self._key_seen == 1 and time_s < self._key_time):
            self._leading += 1
        if time_s >= self._last[0]:
            self._last = (time_s, duration_s)


class _Span:
    __slots__ = ("end_s", "first_s", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.first_s = math.inf
        self.end_s = -math.inf


def frame_interval(times: Sequence[float]) -> float | None:
    """The usual time between two pictures, in seconds; None when there are fewer than two.

    The median of a sample: a long pause in a screen recording does not move it.
    """
    count = len(times)
    if count < 2:
        return None
    step = max(1, count // SAMPLE_FRAMES)
    gaps = [times[at + 1] - times[at] for at in range(0, count - 1, step)]
    positive = [gap for gap in gaps if gap > 0]
    return statistics.median(positive) if positive else None


def grid_keyframes(times: Sequence[float], grid_s: float) -> list[float]:
    """Where key frames must stand: at the first picture of every interval of the grid.

    The grid starts at the first picture, as ffmpeg's own clock for forced key frames does.
    `arguments.keyframe_expression` asks the encoder for the same; both must change together.
    """
    found: list[float] = []
    at = 0
    while at < len(times):
        found.append(times[at])
        cell = math.floor((times[at] - times[0]) / grid_s + GRID_EPSILON)
        next_s = times[0] + (cell + 1 - GRID_EPSILON) * grid_s
        at = bisect.bisect_left(times, next_s, lo=at + 1)
    return found


def _seconds(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:  # "N/A"
        return None
