"""A transcoder that makes small files of its source: ffmpeg is not what these tests are about.

What it makes depends on the source and nothing else, and its digest is committed with it. So the
checker can tell a whole object from a part of one, and one task's from another's.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from uuid import UUID

import trio

from pipeline.errors import TranscodeFailed
from pipeline.ports import Inspection, Order, Transcoded
from pipeline.tasks import Product, ProductKind, Progress

NAMES = ("720p.mp4", "360p.mp4", "poster.jpg")
"""More than one, so that some of them may be there without the others."""

SOURCE_BYTES = 4096


def source_of(task_id: UUID, size: int = SOURCE_BYTES) -> bytes:
    """A source that names its task, and has every byte of its own."""
    text = str(task_id).encode()
    filling = hashlib.shake_128(text).digest(max(0, size - len(text)))
    return text + filling


def task_of(order: Order) -> UUID:
    """Whose source it is."""
    with order.source.open("rb") as source:
        return UUID(source.read(36).decode())


class DigestTranscoder:
    """Makes three files, each a digest of the source of a third of its length.

    Args:
        takes_s: How long that takes.
    """

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self._takes_s = takes_s
        self.begun: Counter[UUID] = Counter()
        """How often each task's transcoding was."""

    async def inspect(self, order: Order) -> Inspection:
        """Demand that the source is whole."""
        source = await trio.Path(order.source).read_bytes()
        if source != source_of(task_of(order), len(source)):
            raise TranscodeFailed("the source has other bytes than were stored", code="other_bytes")
        return Inspection(video={"bytes": len(source)}, renditions=NAMES)

    async def transcode(
        self, order: Order, inspection: Inspection, report: Callable[[Progress], None]
    ) -> Transcoded:
        task_id = task_of(order)
        self.begun[task_id] += 1
        source = await trio.Path(order.source).read_bytes()
        report(Progress(step="transcode", fraction=0.5))
        await self._take_time(task_id)
        products = []
        for name in inspection.renditions:
            made = hashlib.shake_128(name.encode() + source).digest(len(source) // 3)
            await trio.Path(order.output / name).write_bytes(made)
            digest = hashlib.sha256(made).hexdigest()
            products.append(
                Product(
                    kind=ProductKind.RENDITION, name=name, size=len(made), media={"sha256": digest}
                )
            )
        return Transcoded(products=tuple(products), warnings=(), cpu_seconds=0.0)

    async def _take_time(self, _: UUID) -> None:
        await trio.sleep(self._takes_s)


class PatientTranscoder(DigestTranscoder):
    """Takes as long over each task as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self._may_end: defaultdict[UUID, trio.Event] = defaultdict(trio.Event)

    def end(self, *task_ids: UUID) -> None:
        """Come to the end of these, now and whenever they are begun again."""
        for task_id in task_ids:
            self._may_end[task_id].set()

    async def _take_time(self, task_id: UUID) -> None:
        await self._may_end[task_id].wait()
