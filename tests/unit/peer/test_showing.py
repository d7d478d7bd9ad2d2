from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from peer.protocol import LINE_BYTES_MAX, ShownOutput
from peer.showing import BATCH, batches, shown_task, without_outputs
from pipeline.tasks import OutputReport, ProductKind, TaskReport, TaskState

SEGMENTS_OF_A_DAY = 21_600
RENDITIONS = ("1080p", "720p", "480p", "360p", "audio")


def url(key: str) -> str:
    return f"/store/{key}"


def output(kind: ProductKind, name: str, rendition: str = "") -> OutputReport:
    return OutputReport(
        kind=kind, name=name, rendition=rendition, key=f"tasks/1/{name}", size=10, media={}
    )


@pytest.fixture
def report(samples: Mapping[str, Any]) -> TaskReport:
    """An HLS task of a day."""
    segments = [
        output(ProductKind.SEGMENT, f"hls/{rendition}/segment_{number:05}.m4s", rendition)
        for rendition in RENDITIONS
        for number in range(SEGMENTS_OF_A_DAY)
    ]
    playlists = [
        output(ProductKind.PLAYLIST, f"hls/{rendition}/index.m3u8", rendition)
        for rendition in RENDITIONS
    ]
    task: TaskReport = msgspec.convert(samples["task"](), TaskReport)
    return replace(task, outputs=(*segments, *playlists))


def test_a_days_segments_fit_on_a_line(report: TaskReport) -> None:
    """A hundred thousand segments are a sum for each rendition; all the rest is there by itself."""
    task = shown_task(report, url)
    assert [output.url for output in task.outputs] == [
        f"/store/tasks/1/hls/{rendition}/index.m3u8" for rendition in RENDITIONS
    ]
    assert [(some.rendition, some.files, some.size, some.url) for some in task.segments] == [
        (rendition, SEGMENTS_OF_A_DAY, 10 * SEGMENTS_OF_A_DAY, f"/store/tasks/1/hls/{rendition}/")
        for rendition in RENDITIONS
    ]
    assert sum(made.size for made in task.made) == sum(output.size for output in report.outputs)
    assert len(json.dumps(msgspec.to_builtins(task))) < LINE_BYTES_MAX / 1000


def test_all_outputs_come_in_batches(report: TaskReport) -> None:
    """Every output comes once, in order, on lines that are far from the limit."""
    whole: list[ShownOutput] = []
    for batch in batches(report.outputs, url):
        assert len(batch) <= BATCH
        assert len(json.dumps(msgspec.to_builtins(batch))) < LINE_BYTES_MAX / 50
        whole += batch
    assert [output.key for output in whole] == [output.key for output in report.outputs]
    assert whole[-1].url == url(report.outputs[-1].key)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (TaskState.QUEUED, False),
        (TaskState.RUNNING, False),
        (TaskState.DONE, True),
        (TaskState.ESCALATED, True),
        (TaskState.CANCELLED, True),
    ],
)
def test_outputs_are_watched_at_the_end(report: TaskReport, state: TaskState, told: bool) -> None:
    """What some parts have made is not sent again with every step of the others."""
    assert bool(without_outputs(replace(report, state=state)).outputs) is told
