"""Whether a source is cut short: what it promises against what can be read of it.

ffmpeg converts half a film and exits with 0. So before anything is encoded, three witnesses are
heard:

* the reader of the container, when the file ends in the middle of a packet;
* the file's structure, when it says that more bytes should follow, and pictures are indeed missing
  or were never counted;
* the header's duration, when clearly less of it can be read, for containers that write it down.

Counting alone is no witness: an edit list leaves pictures out on purpose, AVI counts one more than
it holds, and a stream of fragments promises nothing.

Pure: values in, a sentence or None out.
"""

from __future__ import annotations

from pipeline.media.index import PacketIndex
from pipeline.media.layout import Layout
from pipeline.media.probe import SourceInfo

SHORTFALL_MIN_S = 2.0
SHORTFALL_SHARE = 0.05
"""How much less than the header's duration must be readable before that alone is believed. Headers
round, count a last picture's length differently, and cover streams that end a little later."""


def describe_truncation(
    source: SourceInfo, index: PacketIndex, layout: Layout | None, *, reader_said_so: bool
) -> str | None:
    """One sentence when the source is cut short, else None.

    Args:
        reader_said_so: ffprobe reported that the file ends inside a packet.
    """
    promised = source.video.frames_promised
    is_missing_pictures = promised is None or index.frames + index.empty < promised
    is_missing_bytes = layout is not None and layout.missing_bytes > 0 and is_missing_pictures
    if not (reader_said_so or is_missing_bytes or _is_missing_time(source, index)):
        return None
    readable = f"only {_pictures(index.frames)} ({index.duration_s:.1f} s) can be read"
    promised_s = _promised_s(source)
    if promised is not None and is_missing_pictures:
        # AVI's reader derives the duration from the file's size, so a cut file's is too short.
        lasting = promised_s is not None and promised_s > index.duration_s + 1
        told = f" ({promised_s:.1f} s)" if lasting else ""
        return (
            f"The source is cut short: its index promises {_pictures(promised)}{told}, "
            f"but {readable}."
        )
    if promised_s is not None and promised_s > index.duration_s + 0.1:
        return f"The source is cut short: its header promises {promised_s:.1f} s, but {readable}."
    if layout is not None and layout.missing_bytes > 0:
        return (
            f"The source is cut short: {layout.missing_bytes} of its "
            f"{layout.declared_size} bytes are missing at the end, and {readable}."
        )
    return f"The source is cut short: it ends in the middle of a packet, and {readable}."


def _is_missing_time(source: SourceInfo, index: PacketIndex) -> bool:
    """The duration of the whole is compared with the end of the longest stream."""
    if not source.duration_promised or source.duration_s is None:
        return False
    if source.video.frames_promised is not None and "mov" in source.format_name.split(","):
        return False  # an edited QuickTime file; its boxes and its reader are better witnesses
    starts = [span.first_s for span in index.spans.values() if span.first_s is not None]
    readable_s = index.end_of_all_s - min(starts, default=0.0)
    shortfall_s = source.duration_s - max(readable_s, index.end_of_all_s)
    return shortfall_s > max(SHORTFALL_MIN_S, SHORTFALL_SHARE * source.duration_s)


def _promised_s(source: SourceInfo) -> float | None:
    if source.video.frames_promised is not None and source.video.duration_s is not None:
        return source.video.duration_s
    return source.duration_s if source.duration_promised else None


def _pictures(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"
