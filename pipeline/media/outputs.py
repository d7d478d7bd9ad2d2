"""What ffprobe says about a file that we made: streams and packets, from one run of it.

Outputs are probed by the same program as the source, but in one go, since there are several of
them and starting ffprobe costs more than reading a short file. Nothing is believed that the
encoder or the muxer reported about its own work.

Pure: ffprobe's lines in, an `Output` out.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.media.index import PACKET_FIELDS, PacketIndex, PacketReader

_STREAM_FIELDS = (
    "stream=index,codec_type,codec_name,profile,width,height,sample_aspect_ratio,pix_fmt,"
    "color_range,color_space,color_transfer,color_primaries,channels,sample_rate"
)
_ENTRIES = (
    f"{PACKET_FIELDS}:{_STREAM_FIELDS}:stream_disposition=default:stream_tags=language"
    ":stream_side_data=rotation"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTrack:
    """One audio stream of an output; `end_s` is None when it holds nothing."""

    index: int
    codec: str
    channels: int
    sample_rate: int
    language: str
    default: bool
    end_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file that was made.

    Args:
        video_codec: None when it has no video.
        rotated: It still asks its player to turn the picture.
        packets: Of the video stream; of the first stream when there is no video.
    """

    video_codec: str | None
    profile: str
    width: int
    height: int
    pixel_aspect: str
    pixel_format: str
    colour: tuple[str, str, str, str]
    rotated: bool
    tracks: tuple[OutputTrack, ...]
    packets: PacketIndex


def output_arguments() -> list[str]:
    """The options that make ffprobe write what `OutputReader` reads."""
    return ["-show_entries", _ENTRIES, "-of", "compact"]


class OutputReader:
    """Takes ffprobe's output in pieces of any size. Our files hold the video first."""

    def __init__(self) -> None:
        self._rest = b""
        self._packets = PacketReader(0)
        self._streams: list[dict[str, str]] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            section, _, rest = line.partition(b"|")
            if section == b"packet":
                values = [field.partition(b"=")[2] for field in rest.split(b"|")[:6]]
                self._packets.feed(b"|".join(values) + b"\n")
            elif section == b"stream":
                fields = (
                    field.partition("=") for field in rest.decode(errors="replace").split("|")
                )
                self._streams.append({name: value for name, _, value in fields})

    def finish(self) -> Output:
        """Everything was fed."""
        if self._rest:
            self.feed(b"\n")
        packets = self._packets.finish()
        videos = [stream for stream in self._streams if stream.get("codec_type") == "video"]
        video = videos[0] if videos else {}
        return Output(
            video_codec=video.get("codec_name"),
            profile=video.get("profile", ""),
            width=_integer(video.get("width")),
            height=_integer(video.get("height")),
            pixel_aspect=video.get("sample_aspect_ratio", "N/A"),
            pixel_format=video.get("pix_fmt", ""),
            colour=(
                video.get("color_range", ""),
                video.get("color_space", ""),
                video.get("color_primaries", ""),
                video.get("color_transfer", ""),
            ),
            rotated=_integer(video.get("rotation", "0").lstrip("-")) != 0,
            tracks=tuple(
                _track(stream, packets)
                for stream in self._streams
                if stream.get("codec_type") == "audio"
            ),
            packets=packets,
        )


def _track(stream: dict[str, str], packets: PacketIndex) -> OutputTrack:
    index = _integer(stream.get("index"))
    span = packets.spans.get(index)
    return OutputTrack(
        index=index,
        codec=stream.get("codec_name", ""),
        channels=_integer(stream.get("channels")),
        sample_rate=_integer(stream.get("sample_rate")),
        language=stream.get("tag:language", "und"),
        default=stream.get("disposition:default") == "1",
        end_s=span.end_s if span is not None and span.packets else None,
    )


def _integer(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
