"""The transcoder: look, make, check, and only then call it done.

This is the shell around the pure modules: it runs ffmpeg, hands its words on, and turns what comes
back into verified products or into an error that says whose fault it is. The order in which blame
is laid matters, because the exit code tells nothing (it is 0 for half a film, and 1 or any other
number for a full disk and a broken file alike):

1. we stopped it, or the kernel did: a limit, a stall, memory;
2. this machine is at fault: the disk is full;
3. the decoders complained about the source: it is damaged, whatever the exit code;
4. ffmpeg failed, and nobody knows why;
5. it says that all is well: every output is probed, counted and decoded at its ends, and what does
   not hold is a failed attempt, because the source was found healthy.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace

import trio

from pipeline.errors import SourceRejected, TranscodeFailed
from pipeline.media import damage, inspector
from pipeline.media.acceptance import accept
from pipeline.media.arguments import (
    CELLS,
    directories,
    encoding_of,
    tile_arguments,
    transcode_arguments,
)
from pipeline.media.complaints import Complaints, speakers_of
from pipeline.media.config import ENCODER_THREADS_MAX, TranscodeConfig
from pipeline.media.inspector import Inspected
from pipeline.media.limits import inspecting, transcoding
from pipeline.media.process import Finished, run
from pipeline.media.products import collect, lay_cells
from pipeline.media.progress import ProgressParser
from pipeline.media.rejection import explain_stopped, tidy_log
from pipeline.media.tools import Tools
from pipeline.ports import Inspection, Order, Transcoded
from pipeline.shortage import OUT_OF_MEMORY, reduced_threads
from pipeline.tasks import Product, Progress, RenditionProgress, Strictness

ENCODED_FRACTION = 0.96
"""Where the encode ends and the checks begin, of the whole: measured, they take a 20th at most."""

_log = logging.getLogger(__name__)


class FfmpegTranscoder:
    """Implements `ports.Transcoder`; one object serves any number of tasks at once.

    Args:
        tools: The ffmpeg and ffprobe to use.
    """

    def __init__(self, tools: Tools, config: TranscodeConfig | None = None) -> None:
        self._tools = tools
        self._config = config if config is not None else TranscodeConfig()

    async def inspect(self, order: Order) -> Inspected:
        """Look whether the source can be transcoded; see the port."""
        return await inspector.inspect(order, self._tools, self._config)

    async def transcode(
        self, order: Order, inspection: Inspection, report: Callable[[Progress], None]
    ) -> Transcoded:
        """Make, verify and describe every product; see the port.

        An inspection that did not come from this object's `inspect` is made again.
        """
        if isinstance(inspection, Inspected):
            looked, cpu_seconds = inspection, inspection.cpu_seconds
        else:
            looked = await self.inspect(order)
            cpu_seconds = looked.cpu_seconds
        meter = _Meter(looked, report)
        finished, complaints = await self._encode(order, looked, meter)
        cpu_seconds += finished.cpu_seconds
        self._blame_machine(finished, complaints)
        warnings, damage_cpu_s = await self._blame_source(order, looked, finished, complaints)
        cpu_seconds += damage_cpu_s
        meter.show_checking()
        accepted = await accept(order, looked, self._tools, self._config, is_damaged=bool(warnings))
        warnings += accepted.warnings
        cpu_seconds += await self._lay_out_thumbnails(order, looked)
        products = await trio.to_thread.run_sync(collect, accepted.made)
        _log_done(order, looked, products)
        return Transcoded(
            products=products,
            warnings=tuple(warnings),
            cpu_seconds=cpu_seconds + accepted.cpu_seconds,
        )

    async def _encode(
        self, order: Order, looked: Inspected, meter: _Meter
    ) -> tuple[Finished, Complaints]:
        """Run the one ffmpeg that makes everything."""
        for name in directories(looked.plan):
            await trio.Path(order.output, name).mkdir(parents=True, exist_ok=True)
        complaints = Complaints(speakers=speakers_of(looked.source))
        parser = ProgressParser()

        def take_progress(data: bytes) -> None:
            for snapshot in parser.feed(data):
                if snapshot.frame is not None:
                    meter.show_frames(snapshot.frame)

        largest = max(
            rendition.video_bitrate + rendition.audio_bitrate * len(looked.plan.tracks)
            for rendition in looked.plan.renditions
        )
        finished = await run(
            transcode_arguments(
                self._tools.ffmpeg,
                order.source,
                looked.plan,
                encoding_of(self._config, self._threads(order)),
                self._config,
            ),
            cwd=order.output,
            reads=[order.source],
            limits=transcoding(
                self._config.limits, duration_s=looked.index.duration_s, bitrate=largest
            ),
            on_stdout=take_progress,
            on_stderr_line=complaints.take,
        )
        return finished, complaints

    def _threads(self, order: Order) -> int:
        threads = self._config.encoder_threads or min(
            ENCODER_THREADS_MAX, len(os.sched_getaffinity(0))
        )
        return reduced_threads(threads, order.shortages)

    def _blame_machine(self, finished: Finished, complaints: Complaints) -> None:
        """Raise when the attempt failed for a reason that lies outside the source."""
        if stopped := explain_stopped(finished, "transcoding"):
            raise stopped
        if finished.returncode == 0:
            return
        log = tidy_log(finished.log)
        if complaints.disk_full:
            raise TranscodeFailed(
                "The disk of this peer's workspace is full: make room, or give it another "
                "data directory.",
                code="disk_full",
                log_tail=log,
            )
        if complaints.file_too_large:
            raise TranscodeFailed(
                "An output became larger than its limit.", code="output_limit", log_tail=log
            )
        if complaints.out_of_memory:
            raise TranscodeFailed(
                f"ffmpeg ran out of memory; its limit is {self._config.limits.memory_bytes} bytes.",
                code=OUT_OF_MEMORY,
                log_tail=log,
            )

    async def _blame_source(
        self, order: Order, looked: Inspected, finished: Finished, complaints: Complaints
    ) -> tuple[list[str], float]:
        """Raise when the source is damaged and the order strict, or when ffmpeg failed anyway.

        Returns:
            Warnings about damage, and the CPU seconds that finding it took.
        """
        log = tidy_log(finished.log)
        warnings: list[str] = []
        cpu_seconds = 0.0
        if complaints.source_errors:
            found = await damage.locate(order, looked, complaints, self._tools, self._config)
            cpu_seconds = found.cpu_seconds
            if finished.returncode != 0:
                raise SourceRejected(found.sentence, code="damaged", log_tail=log)
            if not damage.is_cut_start(found, complaints, looked.index):
                if order.strictness is Strictness.STRICT:
                    raise SourceRejected(found.sentence, code="damaged", log_tail=log)
                warnings.append(found.sentence)
        elif finished.returncode != 0:
            raise TranscodeFailed(
                f"ffmpeg failed with exit code {finished.returncode}.",
                code="ffmpeg_failed",
                log_tail=log,
            )
        return warnings, cpu_seconds

    async def _lay_out_thumbnails(self, order: Order, looked: Inspected) -> float:
        """Make sheets of the thumbnails; returns CPU seconds."""
        limits, sheets = self._config.limits, looked.plan.sheets
        await trio.to_thread.run_sync(lay_cells, order.output, sheets)
        finished = await run(
            tile_arguments(self._tools.ffmpeg, sheets),
            cwd=order.output,
            limits=replace(inspecting(limits), file_bytes=limits.output_max_bytes),
        )
        if finished.returncode != 0 or finished.stopped_for is not None:
            raise TranscodeFailed(
                "The thumbnail sheets could not be made.",
                code="ffmpeg_failed",
                log_tail=tidy_log(finished.log),
            )
        await trio.Path(order.output, CELLS).unlink()
        return finished.cpu_seconds


class _Meter:
    """Turns counted frames into progress that never falls.

    Frames are counted, not times: with several outputs ffmpeg's time is that of the slowest, and
    release 8 reports none at all for the tee. All renditions come from one process, and so have
    the same fraction.
    """

    def __init__(self, looked: Inspected, report: Callable[[Progress], None]) -> None:
        self._looked = looked
        self._report = report
        self._started = trio.current_time()
        self._frames = 0

    def show_frames(self, frames: int) -> None:
        total = self._looked.index.frames
        self._frames = max(self._frames, min(frames, total))
        done = self._frames / total
        elapsed_s = trio.current_time() - self._started
        speed = self._looked.index.duration_s * done / elapsed_s if elapsed_s > 0 else None
        eta_s = elapsed_s * (1 / (done * ENCODED_FRACTION) - 1) if done > 0 else None
        self._show("transcode", done * ENCODED_FRACTION, done, speed=speed, eta_s=eta_s)

    def show_checking(self) -> None:
        self._frames = self._looked.index.frames
        self._show("verify", ENCODED_FRACTION, 1.0)

    def _show(
        self,
        step: str,
        fraction: float,
        each: float,
        *,
        speed: float | None = None,
        eta_s: float | None = None,
    ) -> None:
        self._report(
            Progress(
                step=step,
                fraction=fraction,
                frames=self._frames,
                frames_total=self._looked.index.frames,
                speed=speed,
                eta_s=eta_s,
                renditions=tuple(
                    RenditionProgress(name=name, fraction=each, step=step)
                    for name in self._looked.renditions
                ),
            )
        )


def _log_done(order: Order, looked: Inspected, products: tuple[Product, ...]) -> None:
    _log.debug(
        "transcoded",
        extra={
            "action": "transcoded",
            "source": order.source.name,
            "frames": looked.index.frames,
            "products": len(products),
        },
    )
