"""What a source may ask of this machine, and what ffmpeg may open when it reads one.

An upload is hostile until shown otherwise. ffmpeg believes a file's content and not its name, so a
`.mp4` may be a playlist that reads another tenant's file, a picture format that renders text, or a
few kilobytes that unpack to gigabytes. Lists of what is forbidden are never complete; so this is a
list of what is needed, in three layers:

* protocols: `file` and nothing else, so no network, no `concat:`, no `data:`, no `crypto:`, even
  where a name or a container leads there;
* formats: containers that hold media themselves, none that point to other files. This is the layer
  that stops a playlist which names local files; the first one alone would not;
* decoders: those that the containers above carry in practice. Many of ffmpeg's five hundred exist
  for one game of the nineties and have seen no care since.

Should a decoder with a hole do as the upload says all the same, `confinement` stands around it.

The options of this module stand before the `-i` of every ffmpeg and ffprobe, and mean the same to
both. Not set is what is off by default and only exists for some formats, where ffmpeg would refuse
the option for all others (`enable_drefs` of QuickTime): a test holds that it stays off.

Pure: numbers in, numbers and argument lists out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
HOUR_S = 3600.0

PROTOCOLS = ("file",)

VIDEO_FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2"),
    *("matroska", "webm"),
    *("mpegts", "mpeg", "avi", "flv", "ogg", "asf", "mxf", "gxf", "dv", "ivf", "nut"),
    "yuv4mpegpipe",
)
AUDIO_FORMATS = ("mp3", "wav", "w64", "aac", "flac", "aiff", "ac3", "eac3", "caf", "amr", "au")
"""Never transcoded. They may be opened so that the answer is 'this is audio without video'."""

VIDEO_DECODERS = (
    *("h264", "hevc", "vvc", "av1", "libdav1d", "libaom-av1"),
    *("vp3", "theora", "vp6", "vp6a", "vp6f", "vp8", "libvpx", "vp9", "libvpx-vp9"),
    *("mpeg1video", "mpegvideo", "mpeg2video", "mpeg4", "h263", "h263p", "flv"),
    *("msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1"),
    *("dvvideo", "mjpeg", "prores", "dnxhd", "cfhd", "jpeg2000", "ffv1", "huffyuv", "ffvhuff"),
    *("utvideo", "rawvideo", "v210", "v410", "qtrle", "svq1", "svq3", "cinepak", "rpza"),
)
AUDIO_DECODERS = (
    *("aac", "aac_latm", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"),
    *("ac3", "eac3", "dca", "truehd", "mlp", "flac", "alac", "s302m"),
    *("opus", "libopus", "vorbis", "libvorbis", "speex", "libspeex", "nellymoser"),
    *("wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice", "amrnb", "amrwb", "gsm", "gsm_ms"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_swf", "adpcm_yamaha", "qdm2"),
    *("pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_bluray", "pcm_dvd"),
    *("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"),
    *("pcm_s16be", "pcm_s24be", "pcm_s32be", "pcm_f32be", "pcm_f64be"),
)
IGNORED_DECODERS = (
    # Subtitles and cover art: dropped, but ffprobe refuses a whole file with a stream whose decoder
    # it may not open.
    *("mov_text", "srt", "subrip", "ass", "ssa", "webvtt", "text", "cc_dec"),
    *("dvdsub", "dvbsub", "pgssub", "xsub", "libzvbi_teletextdec"),
    *("png", "bmp", "gif", "webp"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What one run may use; None is no limit.

    Args:
        wall_s: From start to end; then it is stopped for `wall`.
        memory_bytes: Address space (RLIMIT_AS), which is more than what is resident: every thread
            reserves some. Beyond it allocation fails, and ffmpeg ends with an error.
        file_bytes: Of each file it writes (RLIMIT_FSIZE); beyond it the kernel ends the program
            with SIGXFSZ.
        stall_s: For how long it may use next to no CPU time before it is stopped for `stall`.
            Progress without CPU time does not exist, and so is not asked for.
        fenced: Whether it is kept from other files, from the network and from other processes.
    """

    wall_s: float
    memory_bytes: int | None = None
    file_bytes: int | None = None
    stall_s: float | None = None
    fenced: bool = True

    def __post_init__(self) -> None:
        for name in ("wall_s", "memory_bytes", "file_bytes", "stall_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"process limits: {name} must be above 0, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLimits:
    """What a source may be and what the work on it may use. Generous, but finite.

    Args:
        size_max_bytes: Of the file.
        pixels_max: Of a coded picture; the default is 8K with its padding to whole blocks.
        streams_max: Of all kinds together.
        memory_bytes: Address space of each ffmpeg and ffprobe. Measured: the `web` ladder takes
            1.1 GB with 2 threads an encoder and 3.7 GB with 16, from 1080p as from 8K.
        output_max_bytes: Of each file that is made, whatever the arithmetic says it may need.
        inspect_wall_s: For reading a source once from end to end.
        wall_floor_s: For transcoding a source of no length.
        wall_per_second: And in addition for each second of its duration: a 4K ladder on a busy
            small machine runs at about a twentieth of real time.
        stall_s: How long a program may use next to no CPU time.
        fenced: Whether ffmpeg is kept from all files but its own, from the network and from other
            processes, as far as the kernel can. To be turned off for a script in ffmpeg's place
            that needs more than that.
    """

    size_max_bytes: int = 256 * GIBIBYTE
    pixels_max: int = 8192 * 4352
    duration_max_s: float = 24 * HOUR_S
    streams_max: int = 64
    memory_bytes: int = 4 * GIBIBYTE
    output_max_bytes: int = 64 * GIBIBYTE
    inspect_wall_s: float = 900.0
    wall_floor_s: float = 600.0
    wall_per_second: float = 60.0
    stall_s: float = 120.0
    fenced: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "fenced" and value <= 0:
                raise ValueError(f"source limits: {field.name} must be above 0, not {value}")
        if self.memory_bytes < 256 * MEBIBYTE:
            raise ValueError("source limits: ffmpeg does not start with memory_bytes below 256 MiB")


def input_guard(limits: SourceLimits) -> dict[str, str]:
    """The options that stand before every `-i`, by name without the dash.

    A coded picture above `pixels_max` is refused before memory is taken for it; a container with
    more than `streams_max` streams is refused while its header is read.
    """
    return {
        "protocol_whitelist": ",".join(PROTOCOLS),
        "format_whitelist": ",".join((*VIDEO_FORMATS, *AUDIO_FORMATS)),
        "codec_whitelist": ",".join((*VIDEO_DECODERS, *AUDIO_DECODERS, *IGNORED_DECODERS)),
        "max_pixels": str(limits.pixels_max),
        "max_streams": str(limits.streams_max),
    }


def as_arguments(options: Mapping[str, str]) -> list[str]:
    """Write options as the command line has them: `-name value -name value`."""
    return [word for name, value in options.items() for word in (f"-{name}", value)]


def inspecting(limits: SourceLimits) -> ProcessLimits:
    """What a program that only reads the source may use; the one byte is of a file it may write."""
    return ProcessLimits(
        wall_s=limits.inspect_wall_s,
        memory_bytes=limits.memory_bytes,
        file_bytes=1,
        stall_s=limits.stall_s,
        fenced=limits.fenced,
    )


def transcoding(limits: SourceLimits, *, duration_s: float, bitrate: int) -> ProcessLimits:
    """What the transcode of a source may use.

    Args:
        duration_s: Of the source, as its packets say and not as its header claims.
        bitrate: Of the largest output with its audio, in bits per second. A file may reach twice
            what follows from it, since encoders overshoot on short or hard pictures.
    """
    expected_bytes = int(duration_s * bitrate / 8)
    return ProcessLimits(
        wall_s=limits.wall_floor_s + limits.wall_per_second * duration_s,
        memory_bytes=limits.memory_bytes,
        file_bytes=min(limits.output_max_bytes, 64 * MEBIBYTE + 2 * expected_bytes),
        stall_s=limits.stall_s,
        fenced=limits.fenced,
    )
