"""Accept what was made, or not: every output held against the source's packets, file by file.

The order is: probe everything; count; where pictures are missing and no decoder complained, decode
the source once more, in another program and to no output, to learn whether anybody could have got
more out of it; compare everything else; decode the ends. Each step is in a module of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import trio

from pipeline.errors import TranscodeFailed
from pipeline.media import checking, damage, verify
from pipeline.media.arguments import rendition_file
from pipeline.media.config import TranscodeConfig
from pipeline.media.inspector import Inspected
from pipeline.media.ladder import Packaging
from pipeline.media.outputs import Output
from pipeline.media.products import Made, find_ends
from pipeline.media.tools import Tools
from pipeline.ports import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Outputs that hold; `warnings` are about pictures that nobody can decode."""

    made: Made
    warnings: tuple[str, ...]
    cpu_seconds: float


async def accept(
    order: Order,
    looked: Inspected,
    tools: Tools,
    config: TranscodeConfig,
    *,
    is_damaged: bool,
) -> Accepted:
    """Check every output of one transcode.

    Args:
        is_damaged: Decoders complained about the source, and the order is lenient.

    Raises:
        TranscodeFailed: Something is not as the source promised; the message names up to three.
    """
    plan = looked.plan
    videos = {item.name: rendition_file(plan.packaging, item.name) for item in plan.renditions}
    sounds: dict[str, str] = {}
    if plan.packaging is Packaging.HLS:
        sounds = {item.name: rendition_file(plan.packaging, item.name) for item in plan.tracks}
    found, cpu_seconds = await checking.probe_outputs(
        videos | sounds, order.output, tools, config.limits
    )
    renditions = {name: found[name] for name in videos}
    tracks = {name: found[name] for name in sounds}
    made = min(output.packets.frames for output in renditions.values())
    expected = verify.expect(looked.source, looked.index, plan)
    is_incomplete = looked.cut_short or is_damaged
    if is_incomplete:
        expected = verify.relax(expected)
    elif verify.missing_frames(renditions, expected):
        decodable, decode_cpu_s = await damage.count_decodable(order, looked, tools, config)
        cpu_seconds += decode_cpu_s
        if decodable is not None and made >= decodable - looked.index.crowded:
            expected = replace(expected, frames_min=made)
            is_incomplete = True
    faults = _find_faults(looked, renditions, tracks, expected, config)
    if faults:
        raise TranscodeFailed(
            f"What was made is not what the source promised: {'; '.join(faults[:3])}.",
            code="output_unverified",
        )
    ends = await trio.to_thread.run_sync(find_ends, order.output, videos | sounds, found)
    cpu_seconds += await checking.decode_ends(ends, order.output, tools, config.limits)
    return Accepted(
        made=Made(
            directory=order.output,
            plan=plan,
            renditions=renditions,
            tracks=tracks,
            duration_s=max(output.packets.end_s for output in renditions.values()),
        ),
        warnings=damage.describe_gaps(looked.index, made, is_incomplete=is_incomplete),
        cpu_seconds=cpu_seconds,
    )


def _find_faults(
    looked: Inspected,
    renditions: Mapping[str, Output],
    tracks: Mapping[str, Output],
    expected: verify.Expected,
    config: TranscodeConfig,
) -> list[str]:
    plan = looked.plan
    faults: list[str] = []
    if missing := verify.missing_frames(renditions, expected):
        faults.append(f"{missing} of {looked.index.frames} frames are missing")
    faults += verify.check_agreement(renditions, expected)
    for rendition in plan.renditions:
        output = renditions[rendition.name]
        faults += verify.check_rendition(
            rendition, plan, output, expected, grid_s=config.keyframe_grid_s
        )
    for track, end_s in zip(plan.tracks, expected.track_ends_s, strict=True):
        if track.name not in tracks:
            continue
        held = tracks[track.name].tracks
        if len(held) == 1:
            faults += verify.check_track(track.name, held[0], track, end_s)
        else:
            faults.append(f"{track.name} has {len(held)} audio streams, not one")
    return faults
