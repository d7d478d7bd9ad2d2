"""Whether what was made is what was promised: outputs against the source's packet index.

ffmpeg's exit code says little: it is 0 for half a film. So every output is measured again from
outside, and held against what the source's packets promised before the encode began. A picture too
few in one rendition, a key frame off the grid, a track that stops early, a player's hint that
should be gone: each is a fault with a sentence of its own.

How exact. The number of pictures must be the same in every rendition, and equal to the number of
the source's packets for codecs where one packet is one picture. VP8 hides pictures in packets of
their own, MPEG-4 in AVI packs two into one, and a field of interlaced video may have a packet to
itself: there only the beginning and the end are compared. Times may differ by half a frame, which
allows for every container's clock and for no picture in the wrong place. Audio may end 0.3 s apart
from its source: an AAC encoder's delay and padding are 2048 samples (43 ms), a source's last frame
up to 128 ms, and a container's rounding is added.

Pure: values in, faults out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.media.index import PacketIndex, frame_interval, grid_keyframes
from pipeline.media.ladder import Packaging, Rendition
from pipeline.media.outputs import Output, OutputTrack
from pipeline.media.plan import Plan, TrackPlan
from pipeline.media.probe import SourceInfo

AUDIO_TOLERANCE_S = 0.3
TIME_TOLERANCE_MIN_S = 0.002
DURATION_TOLERANCE_S = 0.5
"""Where pictures cannot be compared one by one; their durations are guesses of the container."""
TICK_S = 0.001
ONE_PACKET_ONE_PICTURE = frozenset(
    {"h264", "hevc", "vvc", "av1", "vp9", "mpeg1video", "mpeg2video", "prores", "dnxhd", "mjpeg"}
    | {"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "v210", "jpeg2000", "cfhd", "dvvideo"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the source lets expect of every rendition.

    Args:
        frames_min: At least so many pictures; fewer than `frames_max` where the file starts with
            some that cannot be decoded.
        frames_max: At most so many; None where packets do not tell.
        times: When the pictures are shown; empty where packets do not tell.
        duration_s: From the first picture to the end of the last; None where nobody knows.
        frame_s: The usual time between two pictures.
        track_ends_s: Where each planned track ends, on the output's clock; None where unknown.
    """

    frames_min: int
    frames_max: int | None
    times: Sequence[float]
    duration_s: float | None
    frame_s: float
    track_ends_s: tuple[float | None, ...]


def expect(source: SourceInfo, index: PacketIndex, plan: Plan) -> Expected:
    """Derive what every rendition must hold."""
    exact = source.video.codec in ONE_PACKET_ONE_PICTURE and not source.video.interlaced
    ends = []
    for track in plan.tracks:
        span = index.spans.get(track.source_index)
        ends.append(None if span is None or span.end_s is None else span.end_s - source.start_s)
    return Expected(
        frames_min=max(1, index.frames - index.leading) if exact else 1,
        frames_max=index.frames if exact else None,
        times=index.times if exact and not index.without_time and not index.leading else (),
        duration_s=None if index.leading else index.duration_s,
        frame_s=frame_interval(index.times) or 1.0,
        track_ends_s=tuple(ends),
    )


def relax(expected: Expected) -> Expected:
    """What is left to expect of a damaged or shortened source: whatever there is, it must agree."""
    return replace(
        expected,
        frames_min=1,
        times=(),
        duration_s=None,
        track_ends_s=tuple(None for _ in expected.track_ends_s),
    )


def check_rendition(
    rendition: Rendition, plan: Plan, output: Output, expected: Expected, *, grid_s: float
) -> list[str]:
    """Every fault of one rendition except missing pictures, a sentence each."""
    name = rendition.name
    if output.video_codec != "h264":
        return [f"{name} has no H.264 video"]
    packets = output.packets
    if not packets.frames:
        return [f"{name} has no pictures"]
    tags = plan.tags
    facts: list[tuple[str, object, object]] = [
        ("size", (output.width, output.height), (rendition.width, rendition.height)),
        ("pixel format", output.pixel_format, "yuv420p"),
        ("pixel shape", output.pixel_aspect in ("1:1", "N/A", "0:1"), True),
        ("rotation", output.rotated, False),
        ("colour tags", output.colour, ("tv", tags.space, tags.primaries, tags.transfer)),
    ]
    faults = [f"{name} has {what} {is_}, not {must}" for what, is_, must in facts if is_ != must]
    faults += _check_times(name, packets, expected)
    grid = grid_keyframes(packets.times, grid_s)
    if not _same_times(packets.keyframes, grid):
        faults.append(
            f"{name} has key frames off the grid of {grid_s:g} s: "
            f"{len(packets.keyframes)} instead of {len(grid)}"
        )
    if plan.packaging is Packaging.MP4:
        faults += check_tracks(name, plan, output.tracks, expected)
    return faults


def check_tracks(
    name: str, plan: Plan, tracks: Sequence[OutputTrack], expected: Expected
) -> list[str]:
    """Every fault of an MP4 file's audio tracks, a sentence each."""
    if len(tracks) != len(plan.tracks):
        return [f"{name} has {len(tracks)} audio tracks, not {len(plan.tracks)}"]
    faults = []
    for number, (track, planned) in enumerate(zip(tracks, plan.tracks, strict=True)):
        what = f"audio track {number + 1} of {name}"
        faults += check_track(what, track, planned, expected.track_ends_s[number])
        if track.default != planned.default:
            faults.append(f"{what} is {'' if track.default else 'not '}the default")
        if planned.language != "und" and track.language == "und":
            faults.append(f"{what} has lost its language, {planned.language}")
    return faults


def check_track(
    what: str, track: OutputTrack, planned: TrackPlan, end_s: float | None
) -> list[str]:
    """Every fault of one audio track, wherever it lies; `end_s` is when it should end."""
    faults = []
    if (track.codec, track.channels, track.sample_rate) != ("aac", planned.channels, 48_000):
        faults.append(
            f"{what} is {track.codec} with {track.channels} channels at {track.sample_rate} Hz"
        )
    if track.end_s is None:
        faults.append(f"{what} is empty")
    elif end_s is not None and abs(track.end_s - end_s) > AUDIO_TOLERANCE_S:
        faults.append(f"{what} ends at {track.end_s:.2f} s, not {end_s:.2f} s")
    return faults


def missing_frames(outputs: Mapping[str, Output], expected: Expected) -> int:
    """How many pictures the source promised and the renditions do not have."""
    made = min((output.packets.frames for output in outputs.values()), default=0)
    return max(0, expected.frames_min - made)


def check_agreement(outputs: Mapping[str, Output], expected: Expected) -> list[str]:
    """Whether all renditions have the same pictures and the same key frames."""
    if not outputs:
        return ["there are no renditions"]
    (first_name, first), *others = outputs.items()
    faults = []
    frames = first.packets.frames
    if expected.frames_max is not None and frames > expected.frames_max:
        faults.append(
            f"{first_name} has {frames} frames, and the source only {expected.frames_max}"
        )
    for name, output in others:
        if output.packets.frames != frames:
            faults.append(
                f"{name} has {output.packets.frames} frames, but {first_name} has {frames}"
            )
        elif not _same_times(output.packets.keyframes, first.packets.keyframes):
            faults.append(f"{name} has key frames at other times than {first_name}")
    return faults


def _check_times(name: str, packets: PacketIndex, expected: Expected) -> list[str]:
    if expected.times and len(expected.times) == packets.frames:
        tolerance_s = max(TIME_TOLERANCE_MIN_S, expected.frame_s / 2)
        # The second picture is the origin, where there is one: the first may have been held.
        origin = min(1, packets.frames - 1)
        for at in range(origin, packets.frames):
            made_s = packets.times[at] - packets.times[origin]
            drift_s = abs(made_s - (expected.times[at] - expected.times[origin]))
            if drift_s > tolerance_s:
                return [f"frame {at} of {name} is shown {drift_s:.3f} s away from its time"]
    elif expected.duration_s is not None and not expected.times:
        apart_s = abs(expected.duration_s - packets.duration_s)
        if apart_s > max(DURATION_TOLERANCE_S, 4 * expected.frame_s):
            return [
                f"{name} shows {packets.duration_s:.2f} s of video, not {expected.duration_s:.2f} s"
            ]
    return []


def _same_times(some: Sequence[float], others: Sequence[float]) -> bool:
    return len(some) == len(others) and all(
        abs(one - other) <= TICK_S for one, other in zip(some, others, strict=True)
    )
