"""Look at a source before any work is done on it: can it be transcoded, and what will come of it.

Three looks, each cheaper than being wrong: at the file's outermost structure, at what its headers
say, and at every packet that can be read. None of them decodes a picture. Everything they conclude
is in pure modules; here the programs are run and their answers passed on.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import trio

from pipeline.errors import SourceRejected, StepError
from pipeline.media.complaints import Complaints, speakers_of
from pipeline.media.config import TranscodeConfig
from pipeline.media.index import PacketIndex, PacketReader, packet_arguments
from pipeline.media.layout import Layout, read_layout
from pipeline.media.limits import as_arguments, input_guard, inspecting
from pipeline.media.plan import Plan, make_plan
from pipeline.media.probe import SourceInfo, describe_duration, parse_source
from pipeline.media.process import run
from pipeline.media.rejection import (
    explain_stopped,
    explain_unreadable,
    tidy_log,
    too_many_pixels,
)
from pipeline.media.tools import Tools
from pipeline.media.truncation import describe_truncation
from pipeline.ports import Inspection, Order
from pipeline.tasks import Strictness

SOFTWARE_DECODERS = {"av1": ("libdav1d", "libaom-av1")}
QUIET = ("-hide_banner", "-loglevel", "level+error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected(Inspection):
    """An inspection with everything that the transcode needs of it.

    Args:
        cut_short: The source is known to be cut short, and the order is lenient.
        cpu_seconds: What looking took.
    """

    source: SourceInfo
    index: PacketIndex
    plan: Plan
    cut_short: bool
    cpu_seconds: float


async def inspect(order: Order, tools: Tools, config: TranscodeConfig) -> Inspected:
    """Look at a source; see `ports.Transcoder.inspect`."""
    size = (await trio.Path(order.source).stat()).st_size
    if size == 0:
        raise SourceRejected("The source is an empty file.", code="empty")
    if size > config.limits.size_max_bytes:
        raise SourceRejected(
            f"The source has {size} bytes, and {config.limits.size_max_bytes} is the limit.",
            code="too_large",
        )
    layout = await trio.to_thread.run_sync(_read_layout, order.source, size)
    source, probe_cpu_s = await _probe(order, layout, size, tools, config)
    _demand_decoder(source, tools)
    index, complaints, index_cpu_s, log = await _read_packets(order, source, tools, config)
    _demand_pictures(source, index, config, log)
    warnings: list[str] = []
    cut_short = describe_truncation(source, index, layout, reader_said_so=complaints.truncated)
    if cut_short is not None:
        if order.strictness is Strictness.STRICT:
            raise SourceRejected(cut_short, code="truncated", log_tail=log)
        warnings.append(cut_short)
    plan = make_plan(
        source, index, order.ladder, config, version=tools.version, filters=tools.filters
    )
    return Inspected(
        video=describe_source(source, index),
        renditions=tuple(rendition.name for rendition in plan.renditions),
        warnings=(*warnings, *plan.warnings),
        source=source,
        index=index,
        plan=plan,
        cut_short=cut_short is not None,
        cpu_seconds=probe_cpu_s + index_cpu_s,
    )


def describe_source(source: SourceInfo, index: PacketIndex) -> dict[str, Any]:
    """What people and the event log are told about a source, in JSON's types."""
    video = source.video
    described: dict[str, Any] = {
        "format": source.format_name,
        "codec": video.codec,
        "width": video.display_width,
        "height": video.display_height,
        "duration_s": round(index.duration_s, 3),
        "frames": index.frames,
        "frame_rate": _rate(video.frame_rate),
        "size": source.size,
        "audio": [{"codec": track.codec, "language": track.language} for track in source.audio],
    }
    for mark, is_so in (("interlaced", video.interlaced), ("hdr", video.colour.hdr)):
        if is_so:
            described[mark] = True
    if video.rotation:
        described["rotation"] = video.rotation
    if source.left_out:
        described["left_out"] = dict(source.left_out)
    return described


def _rate(rate: Fraction | None) -> float | None:
    return None if rate is None else round(float(rate), 3)


def _read_layout(path: Path, size: int) -> Layout | None:
    with path.open("rb") as file:
        return read_layout(file, size)


async def _probe(
    order: Order, layout: Layout | None, size: int, tools: Tools, config: TranscodeConfig
) -> tuple[SourceInfo, float]:
    """Read the headers."""
    guard = as_arguments(input_guard(config.limits))
    wanted = ("-show_format", "-show_streams", "-of", "json", str(order.source))
    finished = await run(
        [str(tools.ffprobe), *QUIET, *guard, *wanted],
        cwd=order.output,
        reads=[order.source],
        limits=inspecting(config.limits),
    )
    if finished.returncode != 0 or finished.stopped_for is not None:
        raise explain_unreadable(finished, layout, config.limits)
    try:
        source = parse_source(finished.stdout, size=size, limits=config.limits)
    except SourceRejected as rejected:
        log = tidy_log(finished.log)
        raise too_many_pixels(log, config.limits) or SourceRejected(
            rejected.message, code=rejected.code, log_tail=log
        ) from rejected
    return source, finished.cpu_seconds


async def _read_packets(
    order: Order, source: SourceInfo, tools: Tools, config: TranscodeConfig
) -> tuple[PacketIndex, Complaints, float, str]:
    """Read every packet once."""
    reader = PacketReader(source.video.index)
    complaints = Complaints(speakers=speakers_of(source))
    guard = as_arguments(input_guard(config.limits))
    finished = await run(
        [str(tools.ffprobe), *QUIET, *guard, *packet_arguments(), str(order.source)],
        cwd=order.output,
        reads=[order.source],
        limits=inspecting(config.limits),
        on_stdout=reader.feed,
        on_stderr_line=complaints.take,
    )
    log = tidy_log(finished.log)
    stopped: StepError | None = explain_stopped(finished, "reading the source's packets")
    if stopped is not None:
        raise stopped
    # Any other exit code is left to what was read: a file that ends in the middle has one too.
    return reader.finish(), complaints, finished.cpu_seconds, log


def _demand_decoder(source: SourceInfo, tools: Tools) -> None:
    """ffmpeg lists a decoder for AV1 that only works on some graphics cards; others do the work."""
    codec = source.video.codec
    needed = SOFTWARE_DECODERS.get(codec)
    if needed is not None and tools.decoders.isdisjoint(needed):
        raise SourceRejected(
            f"The source's video is {codec}, and this ffmpeg ({tools.version}) was built without "
            f"a decoder for it: use one with {' or '.join(needed)}, such as Debian's.",
            code="unsupported_codec",
        )


def _demand_pictures(
    source: SourceInfo, index: PacketIndex, config: TranscodeConfig, log: str
) -> None:
    if index.frames == 0:
        promised = source.video.frames_promised
        if promised:
            raise SourceRejected(
                f"The source is cut short: its index promises {promised} frames, "
                "but not one can be read.",
                code="truncated",
                log_tail=log,
            )
        raise SourceRejected(
            f"The source's video ({source.video.codec}) holds no pictures.",
            code="no_pictures",
            log_tail=log,
        )
    if index.duration_s > config.limits.duration_max_s:
        raise SourceRejected(
            f"The source's packets span {describe_duration(index.duration_s)}, and "
            f"{describe_duration(config.limits.duration_max_s)} is the limit.",
            code="too_long",
            log_tail=log,
        )
