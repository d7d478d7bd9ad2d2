"""HLS: the playlists that ffmpeg writes are read, and the master playlist is written.

ffmpeg can write a master playlist too, but its attributes differ from release to release, and it
has to state bandwidths before it knows them. Here they are what the finished segments come to, and
the codecs are read from the init segment rather than guessed.

Every audio track is a rendition of its own in one group (`EXT-X-MEDIA`), so that a player loads
one language, and no rendition of the video carries sound of its own.

Pure: playlists and sizes in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

VERSION = 7
SUFFIX = ".m3u8"
AUDIO_GROUP = "audio"
AAC_LC = "mp4a.40.2"


class BadPlaylist(ValueError):
    """A media playlist that ffmpeg should have written is not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPlaylist:
    """A finished media playlist: the init segment, and the segments with their lengths in s."""

    init: str
    segments: tuple[tuple[str, float], ...]
    target_s: int

    @property
    def files(self) -> list[str]:
        """Every file that the playlist names, the init segment first."""
        return [self.init, *(name for name, _ in self.segments)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Bits per second: the highest of a segment, and the mean of all."""

    peak: int
    mean: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One rendition of the video, as the master playlist names it."""

    uri: str
    codec: str
    width: int
    height: int
    frame_rate: Fraction
    bandwidth: Bandwidth


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioRendition:
    """One audio track, as the master playlist names it; `language` is `und` where unknown."""

    uri: str
    language: str
    title: str
    default: bool
    channels: int
    bandwidth: Bandwidth


def parse_playlist(text: str) -> MediaPlaylist:
    """Read a media playlist of ours.

    Raises:
        BadPlaylist: It is not whole: no init segment, no segments, or no end.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "#EXTM3U" or lines[-1] != "#EXT-X-ENDLIST":
        raise BadPlaylist("the playlist has no beginning or no end")
    init, target_s, length_s = "", 0, 0.0
    segments: list[tuple[str, float]] = []
    for line in lines:
        name, _, value = line.partition(":")
        if name == "#EXT-X-MAP":
            init = value.partition('URI="')[2].partition('"')[0]
        elif name == "#EXT-X-TARGETDURATION":
            target_s = int(value)
        elif name == "#EXTINF":
            length_s = float(value.partition(",")[0])
        elif not line.startswith("#"):
            segments.append((line, length_s))
    if not init or not segments:
        raise BadPlaylist("the playlist names no init segment or no segments")
    return MediaPlaylist(init=init, segments=tuple(segments), target_s=target_s)


def measure_bandwidth(playlist: MediaPlaylist, sizes: Mapping[str, int]) -> Bandwidth:
    """What the segments come to.

    The standard asks for the highest rate over half a target duration or more, so a short last
    segment does not count by itself.

    Args:
        sizes: Of each segment, in bytes.
    """
    total_bits = 8 * sum(sizes[name] for name, _ in playlist.segments)
    total_s = sum(length_s for _, length_s in playlist.segments)
    mean = total_bits / max(total_s, 0.001)
    peaks = [
        8 * sizes[name] / length_s
        for name, length_s in playlist.segments
        if length_s >= playlist.target_s / 2
    ]
    return Bandwidth(peak=round(max([mean, *peaks])), mean=round(mean))


def codec_of(init_segment: bytes) -> str:
    """The codec's name as RFC 6381 has it, such as `avc1.64001f`, from the init segment.

    Raises:
        BadPlaylist: There is no H.264 configuration in it.
    """
    at = init_segment.find(b"avcC")
    profile = init_segment[at + 5 : at + 8]
    if at < 0 or len(profile) < 3:
        raise BadPlaylist("the init segment has no H.264 configuration")
    return f"avc1.{profile.hex()}"


def write_master(variants: Sequence[Variant], tracks: Sequence[AudioRendition]) -> str:
    """The master playlist: variants in the order given, the first being what a player tries."""
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    taken: set[str] = set()
    for number, track in enumerate(tracks, start=1):
        name = _unique_name(track, number, taken)
        attributes = ["TYPE=AUDIO", f'GROUP-ID="{AUDIO_GROUP}"', f'NAME="{name}"']
        if track.language != "und":
            attributes.append(f'LANGUAGE="{track.language}"')
        attributes += [
            f"DEFAULT={'YES' if track.default else 'NO'}",
            "AUTOSELECT=YES",
            f'CHANNELS="{track.channels}"',
            f'URI="{track.uri}"',
        ]
        lines.append(f"#EXT-X-MEDIA:{','.join(attributes)}")
    audio_peak = max((track.bandwidth.peak for track in tracks), default=0)
    audio_mean = max((track.bandwidth.mean for track in tracks), default=0)
    for variant in variants:
        codecs = f"{variant.codec},{AAC_LC}" if tracks else variant.codec
        attributes = [
            f"BANDWIDTH={variant.bandwidth.peak + audio_peak}",
            f"AVERAGE-BANDWIDTH={variant.bandwidth.mean + audio_mean}",
            f'CODECS="{codecs}"',
            f"RESOLUTION={variant.width}x{variant.height}",
            f"FRAME-RATE={float(variant.frame_rate):.3f}",
        ]
        if tracks:
            attributes.append(f'AUDIO="{AUDIO_GROUP}"')
        lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", variant.uri]
    return "\n".join([*lines, ""])


def _unique_name(track: AudioRendition, number: int, taken: set[str]) -> str:
    """What a player shows in its menu; a quotation mark would end the attribute."""
    told = track.title or (track.language if track.language != "und" else f"Audio {number}")
    name = "".join(letter for letter in told if letter.isprintable() and letter != '"')
    if not name or name in taken:
        name = f"{name} ({number})".strip()
    taken.add(name)
    return name
