"""What can be set about transcoding, in one place, with what each value does."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.media.limits import SourceLimits

PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow"),
)
"""x264's, fastest first; each step down costs about half as much again in CPU time."""
ENCODER_THREADS_MAX = 8
"""More would bring little, since the renditions are encoded side by side anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodeConfig:
    """How this peer transcodes.

    Args:
        preset: x264's trade of CPU time against quality at the same bitrate.
        encoder_threads: Of the decoder and of each encoder. 0: one for each processor this
            process may use, and at most `ENCODER_THREADS_MAX`, since each takes memory.
        keyframe_grid_s: A key frame stands at the first picture of every such interval, in every
            rendition. A player can switch renditions there, and seek there exactly.
        segment_s: Length of an HLS segment; a whole number of grid intervals.
        audio_tracks_max: Tracks beyond that many are left out, with a warning on the task.
        ffmpeg: A path or a name on PATH; None: the machine's own, else the wheel's.
        ffprobe: The same.
        limits: What a source may be and use.
    """

    preset: str = "veryfast"
    encoder_threads: int = 0
    keyframe_grid_s: float = 2.0
    segment_s: float = 4.0
    audio_tracks_max: int = 8
    ffmpeg: str | None = None
    ffprobe: str | None = None
    limits: SourceLimits = field(default_factory=SourceLimits)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"transcode: preset {self.preset!r} is none of {', '.join(PRESETS)}")
        if not 0 <= self.encoder_threads <= ENCODER_THREADS_MAX:
            raise ValueError(f"transcode: encoder_threads must be 0 to {ENCODER_THREADS_MAX}")
        if not 0.5 <= self.keyframe_grid_s <= 10:
            raise ValueError("transcode: keyframe_grid_s must be 0.5 to 10")
        if self.segment_s < self.keyframe_grid_s or self.segment_s % self.keyframe_grid_s != 0:
            raise ValueError("transcode: segment_s must be a whole number of keyframe_grid_s")
        if not 1 <= self.audio_tracks_max <= 32:
            raise ValueError("transcode: audio_tracks_max must be 1 to 32")
