"""Uploads that are not what their name says, made byte by byte, and what they point to."""

from __future__ import annotations

import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECRET = "the neighbour's secret"


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """What lies around an upload, and must not be touched.

    Args:
        uploads: The workspace: the upload, `neighbour.ts` and `neighbour.mdat`.
        foreign: Another directory, with `neighbour.ts` and `secret.txt`.
        output: Where the transcoder may write.
        port: Where a listener waits on the loopback.
        clip: A good MP4 file.
    """

    uploads: Path
    foreign: Path
    output: Path
    port: int
    clip: Path


Build = Callable[[Neighbourhood], bytes]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One upload.

    Args:
        fools: The builds that, without the guard, open a foreign file or connect.
        options: What else ffmpeg needs for that, as a careless caller would give it.
        suffix: Of the name under which it fools: ffmpeg 8 wants a playlist to be named like one.
        opens: The upload is a container that the guard lets ffmpeg open; there is nothing in it.
    """

    name: str
    build: Build
    fools: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()
    suffix: str = ".mp4"
    opens: bool = False


def text(template: str) -> Build:
    """An upload of text, with the places of the neighbourhood filled in."""

    def build(place: Neighbourhood) -> bytes:
        url = f"http://127.0.0.1:{place.port}"
        return template.format(**vars(place), url=url).encode()

    return build


def hls(segment: str, *extra: str) -> Build:
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:1", *extra]
    return text("\n".join([*lines, "#EXTINF:1.0,", segment, "#EXT-X-ENDLIST", ""]))


def dash(base: str) -> Build:
    return text(
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"'
        ' mediaPresentationDuration="PT1S" minBufferTime="PT1S"><Period><AdaptationSet'
        ' mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
        + base
        + "</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )


def xbin(_: Neighbourhood) -> bytes:
    return b"XBIN\x1a" + struct.pack("<HHBB", 80, 25, 16, 0) + SECRET.encode() * 200


def external_reference(place: Neighbourhood) -> bytes:
    """A QuickTime file without media, whose data reference names the file that has it."""
    clip = place.clip.read_bytes()
    path = str(place.uploads / "neighbour.mdat").encode()
    alias = bytearray(150)
    struct.pack_into(">HH", alias, 10 + 28 + 12 + 64 + 16, 1, 1)  # levels up and down
    alias += struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2)
    alias += struct.pack(">hH", -1, 0) + b"\0" * 8
    reference = struct.pack(">I4sI", len(alias) + 12, b"alis", 0) + bytes(alias)
    old = struct.pack(">I4sI", 12, b"url ", 1)
    assert clip.count(old) == 1, "the clip has one track"
    at = clip.index(old)
    grown = len(reference) - len(old)
    moov = bytearray(clip.replace(old, reference))
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = clip.rindex(kind, 0, at) - 4
        size = struct.unpack_from(">I", moov, start)[0]
        struct.pack_into(">I", moov, start, size + grown)
    end = clip.index(b"moov") - 4 + struct.unpack_from(">I", moov, clip.index(b"moov") - 4)[0]
    return bytes(moov[:end])  # without its own mdat; the offsets are those of `neighbour.mdat`


def avi_with_subtitle_playlist(place: Neighbourhood) -> bytes:
    """An AVI file whose GAB2 subtitle chunk is a playlist, read by a demuxer inside the demuxer."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    playlist = hls("{foreign}/neighbour.ts")(place)
    gab2 = b"GAB2\0" + struct.pack("<HIHHI", 2, 0, 4, 0, len(playlist)) + playlist
    stream = chunk(b"strh", b"txts" + struct.pack("<12I", *[0] * 4, 1, 25, 0, 1, 0, 0, 0, 0))
    stream += chunk(b"strf", b"")
    header = chunk(b"avih", struct.pack("<14I", 40_000, *[0] * 3, 1, 0, 1, *[0] * 7))
    lists = chunk(b"LIST", b"hdrl" + header + chunk(b"LIST", b"strl" + stream))
    return chunk(b"RIFF", b"AVI " + lists + chunk(b"LIST", b"movi" + chunk(b"00tx", gab2)))


def zip_archive(place: Neighbourhood) -> bytes:
    path = place.foreign.parent / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(place.clip, "video.mp4")
    return path.read_bytes()


def without_index(place: Neighbourhood) -> bytes:
    """The first part of an MP4 file whose index would have come last."""
    clip = place.clip.read_bytes()
    ftyp = struct.unpack_from(">I", clip)[0]
    return clip[:ftyp] + clip[clip.index(b"mdat") - 4 :]


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' width="64" height="64"><image width="64" height="64" xlink:href="{link}"/></svg>'
)
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
)
IMF = '<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"/>'

BOTH = frozenset({"PATH", "wheel"})
DEBIAN = frozenset({"PATH"})
"""Only ffmpeg 5.1 is fooled: the wheel's build has no such demuxer, or has become careful."""


def playlist(name: str, build: Build, fools: frozenset[str] = BOTH) -> Attack:
    return Attack(name=name, build=build, fools=fools, suffix=".m3u8")


def concat(name: str, path: str) -> Attack:
    build = text(f"ffconcat version 1.0\nfile '{path}'\n")
    return Attack(name=name, build=build, fools=BOTH, options=("-safe", "0"))


def key(uri: str) -> str:
    return f'#EXT-X-KEY:METHOD=AES-128,URI="{uri}"'


ATTACKS = (
    playlist("hls-absolute", hls("{foreign}/neighbour.ts")),
    playlist("hls-relative", hls("../foreign/neighbour.ts")),
    playlist("hls-same-directory", hls("neighbour.ts")),
    playlist("hls-http", hls("{url}/segment.ts")),
    playlist("hls-http-key", hls("neighbour.ts", key("{url}/key"))),
    playlist("hls-file-key", hls("neighbour.ts", key("{foreign}/secret.txt")), DEBIAN),
    playlist("hls-map", hls("neighbour.ts", '#EXT-X-MAP:URI="{foreign}/neighbour.ts"')),
    playlist("hls-master", text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}/variant.m3u8\n")),
    playlist("hls-data", hls("data:video/mp2t;base64,R0ARABCw"), frozenset()),
    playlist("hls-subfile", hls("subfile,,start,0,end,9,,:{foreign}/neighbour.ts"), frozenset()),
    playlist("hls-concat", hls("concat:{foreign}/neighbour.ts|neighbour.ts"), frozenset()),
    playlist("m3u", text("#EXTM3U\n{foreign}/neighbour.ts\n"), frozenset()),
    Attack(
        name="hls-text",
        build=hls("{foreign}/secret.txt"),
        # As people do to make 'all playlists work'.
        options=("-allowed_extensions", "ALL", "-allowed_segment_extensions", "ALL"),
        fools=DEBIAN,
    ),
    concat("concat-relative", "neighbour.ts"),
    concat("concat-absolute", "{foreign}/neighbour.ts"),
    concat("concat-http", "{url}/clip.ts"),
    Attack(name="dash-http", build=dash("{url}/clip.mp4"), fools=DEBIAN),
    Attack(name="dash-file", build=dash("{foreign}/neighbour.ts"), fools=DEBIAN),
    Attack(
        name="mov-external-reference",
        build=external_reference,
        options=("-enable_drefs", "1"),
        fools=BOTH,
        opens=True,
    ),
    Attack(name="avi-gab2", build=avi_with_subtitle_playlist, opens=True),
    Attack(name="imf", build=text(IMF)),
    Attack(name="svg-file", build=text(SVG.replace("{link}", "file://{foreign}/secret.txt"))),
    Attack(name="svg-http", build=text(SVG.replace("{link}", "{url}/image.png"))),
    Attack(name="sdp", build=text(SDP)),
    Attack(name="xbin", build=xbin),
    Attack(name="ansi", build=lambda _: b"\x1b[2J\x1b[31m" + SECRET.encode() * 100),
    Attack(name="vobsub", build=text("# VobSub index file, v7 (do not modify this line!)\n")),
    Attack(name="subtitles", build=text("1\n00:00:00,000 --> 00:00:01,000\n{foreign}/x\n\n")),
    Attack(name="ffmetadata", build=text(";FFMETADATA1\ntitle={foreign}/secret.txt\n")),
    Attack(
        name="image-sequence", build=lambda _: b"\x89PNG\r\n\x1a\n" + b"\0" * 200, suffix="-%d.png"
    ),
    Attack(name="picture", build=lambda _: b"\x89PNG\r\n\x1a\n" + b"\0" * 200),
    Attack(name="zip", build=zip_archive),
    Attack(name="empty", build=lambda _: b""),
    Attack(name="text", build=lambda _: b"This is not a video.\n" * 500),
    Attack(name="html", build=lambda _: b"<!doctype html><video src=x.mp4></video>" * 50),
    Attack(name="random", build=lambda _: random.Random(7).randbytes(200_000)),
    Attack(name="mp4-without-index", build=without_index),
    Attack(name="mp4-header-only", build=lambda place: place.clip.read_bytes()[:32]),
)
