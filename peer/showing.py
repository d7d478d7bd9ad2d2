"""A task as people are shown it: outputs with their places, segments summed, why it waits.

An HLS task of a day has more than a hundred thousand segments, and nobody looks at one by itself.
Sending them all with every answer would take seconds and tens of megabytes, so each rendition's are
told as one sum; the complete list is sent in batches to those who ask for it.

Pure: a report in, what is shown out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from peer.protocol import STOPPED, Escalation, FailedTry, ShownOutput, ShownSegments, ShownTask
from pipeline.notices import Notice
from pipeline.ports import EventRow
from pipeline.tasks import OutputReport, ProductKind, TaskReport

BATCH = 500
"""Outputs on one line of the protocol: some two hundred kilobytes, sent within milliseconds."""

Url = Callable[[str], str]
"""Where a person finds what lies under a key."""


def shown_task(report: TaskReport, url: Url, events: Sequence[EventRow] = ()) -> ShownTask:
    """Put places to the outputs of a task, and make one of all segments of a rendition."""
    single: list[OutputReport] = []
    segments: dict[str, list[OutputReport]] = {}
    for output in report.outputs:
        if output.kind is ProductKind.SEGMENT:
            segments.setdefault(output.rendition, []).append(output)
        else:
            single.append(output)
    return ShownTask(
        **_values(replace(report, outputs=())) | {"outputs": tuple(_shown(single, url))},
        segments=tuple(_sum(rendition, files, url) for rendition, files in segments.items()),
        events=tuple(events),
    )


def shown_escalation(notice: Notice) -> Escalation:
    """What waits for a person, from the event that said so, whichever version has written it."""
    data = notice.data
    return Escalation(
        id=notice.task_id,
        title=notice.title,
        source=notice.source,
        escalated_at=notice.escalated_at,
        attempt=data.get("attempt", 0),
        stage=data.get("stage", ""),
        code=data.get("code", ""),
        message=data.get("message", ""),
        failures=data.get("failures", 0),
        attempts_max=data.get("attempts_max", 0),
        reason=data.get("reason", ""),
        story=tuple(map(_failed_try, data.get("story", ()))),
    )


def _failed_try(told: Mapping[str, Any]) -> FailedTry:
    known = {field.name for field in fields(FailedTry)}
    return FailedTry(**{"attempt": 0} | {key: told[key] for key in known & told.keys()})


def without_outputs(report: TaskReport) -> TaskReport:
    """A task that is watched: what it made is told when it has come to its end."""
    return report if report.state in STOPPED else replace(report, outputs=())


def batches(outputs: Sequence[OutputReport], url: Url) -> Iterator[list[ShownOutput]]:
    """Yield every output, segments too, so many at a time."""
    for start in range(0, len(outputs), BATCH):
        yield list(_shown(outputs[start : start + BATCH], url))


def _shown(outputs: Sequence[OutputReport], url: Url) -> Iterator[ShownOutput]:
    return (ShownOutput(**_values(output), url=url(output.key)) for output in outputs)


def _sum(rendition: str, files: Sequence[OutputReport], url: Url) -> ShownSegments:
    return ShownSegments(
        rendition=rendition,
        files=len(files),
        size=sum(file.size for file in files),
        media=next((file.media for file in files if file.media), {}),
        url=url(files[0].key.rpartition("/")[0]) + "/",
    )


def _values(report: TaskReport | OutputReport) -> dict[str, Any]:
    return {field.name: getattr(report, field.name) for field in fields(report)}
