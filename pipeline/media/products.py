"""Turn the files that ffmpeg left into products: the poster chosen, indexes written, all named.

The poster is the candidate with the largest file. At one size and one quality setting, bytes are
detail: black, fades and title cards are the smallest, and the one picture of several that shows
most is the largest. (ffmpeg's `thumbnail` filter takes the frame nearest to the average histogram:
in a dark film that is a dark frame, and it keeps dozens of full pictures in memory.)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import TranscodeFailed
from pipeline.media import hls
from pipeline.media.arguments import (
    CELL_PREFIX,
    CELLS,
    HLS_DIRECTORY,
    POSTER_PREFIX,
    SHEETS_DIRECTORY,
    rendition_file,
)
from pipeline.media.checking import file_ends, playlist_ends
from pipeline.media.ladder import Packaging, Rendition
from pipeline.media.outputs import Output
from pipeline.media.plan import Plan
from pipeline.media.thumbnails import Sheets, choose_cells, sheet_name, write_vtt
from pipeline.tasks import Product, ProductKind

POSTER = "poster.jpg"
MASTER = f"{HLS_DIRECTORY}/master.m3u8"
INDEX = f"{SHEETS_DIRECTORY}/thumbnails.vtt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made and found good, before it is named.

    Args:
        directory: The order's output directory.
        renditions: By the rendition's name.
        tracks: HLS only: each audio track's own output, by its name.
        duration_s: Of the video, on the outputs' clock from zero to its end.
    """

    directory: Path
    plan: Plan
    renditions: Mapping[str, Output]
    tracks: Mapping[str, Output]
    duration_s: float


def collect(made: Made) -> tuple[Product, ...]:
    """Name every product; what is no product is removed. Blocks: call it in a thread.

    Raises:
        TranscodeFailed: A file that must be there is not.
    """
    try:
        if made.plan.packaging is Packaging.HLS:
            videos = _collect_hls(made)
        else:
            videos = [
                _product(
                    made.directory,
                    ProductKind.RENDITION,
                    rendition_file(Packaging.MP4, rendition.name),
                    rendition=rendition.name,
                    media=_media(rendition, made.renditions[rendition.name]),
                )
                for rendition in made.plan.renditions
            ]
        return (*videos, _choose_poster(made), *_collect_thumbnails(made))
    except (FileNotFoundError, hls.BadPlaylist) as fault:
        raise TranscodeFailed(
            f"An output is missing or not whole: {fault}.", code="output_unverified"
        ) from fault


def find_ends(
    directory: Path, names: Mapping[str, str], outputs: Mapping[str, Output]
) -> list[list[str]]:
    """How to read the first and the last second of every output. Blocks, as `collect` does.

    Args:
        names: Each output's file below the directory, by the name that it goes by.

    Raises:
        TranscodeFailed: A playlist is not whole.
    """
    ends: list[list[str]] = []
    for name, path in names.items():
        if not path.endswith(hls.SUFFIX):
            ends += file_ends(path, outputs[name].packets.end_s)
            continue
        try:
            playlist = hls.parse_playlist((directory / path).read_text("utf-8"))
        except hls.BadPlaylist as fault:
            raise TranscodeFailed(
                f"An output is not whole: {path}: {fault}.", code="output_unverified"
            ) from fault
        ends += playlist_ends(path.rpartition("/")[0], playlist)
    return ends


def _product(
    directory: Path,
    kind: ProductKind,
    name: str,
    *,
    rendition: str = "",
    media: Mapping[str, Any] | None = None,
) -> Product:
    size = (directory / name).stat().st_size
    if size == 0:
        raise FileNotFoundError(f"{name} is empty")
    return Product(kind=kind, name=name, size=size, rendition=rendition, media=media or {})


def _media(rendition: Rendition, output: Output) -> dict[str, Any]:
    return {
        "width": output.width,
        "height": output.height,
        "duration_s": round(output.packets.duration_s, 3),
        "frames": output.packets.frames,
        "bitrate": rendition.video_bitrate,
        "video_codec": output.video_codec,
        "audio": [{"codec": track.codec, "language": track.language} for track in output.tracks],
    }


def lay_cells(directory: Path, sheets: Sheets) -> None:
    """Write the pictures for the sheets behind one another into `CELLS`, and remove them. Blocks.

    Raises:
        TranscodeFailed: There are none.
    """
    picked = _picked(directory, CELL_PREFIX)
    if not picked:
        raise TranscodeFailed("No thumbnails were made.", code="output_unverified")
    with (directory / CELLS).open("wb") as target:
        for number in choose_cells(sheets, [time_s for time_s, _ in picked]):
            target.write(picked[number][1].read_bytes())
    for _, path in picked:
        path.unlink()


def _picked(directory: Path, prefix: str) -> list[tuple[float, Path]]:
    """Still pictures by their time in seconds; ffmpeg wrote it, in milliseconds, into the name."""
    found = []
    for path in (directory / prefix).parent.glob(f"{prefix.rpartition('/')[2]}*.jpg"):
        with suppress(ValueError):
            found.append((int(path.stem.rpartition("_")[2]) / 1000, path))
    return sorted(found)


def _choose_poster(made: Made) -> Product:
    candidates = [path for _, path in _picked(made.directory, POSTER_PREFIX)]
    if not candidates:
        raise FileNotFoundError("no picture for the poster was made")
    # The very first picture is only taken when there is no other.
    best = max(candidates[1:] or candidates, key=lambda path: path.stat().st_size)
    best.rename(made.directory / POSTER)
    for path in candidates:
        path.unlink(missing_ok=True)
    return _product(made.directory, ProductKind.POSTER, POSTER)


def _collect_thumbnails(made: Made) -> list[Product]:
    sheets = made.plan.sheets
    names = [f"{SHEETS_DIRECTORY}/{sheet_name(number + 1)}" for number in range(sheets.sheets)]
    (made.directory / INDEX).write_text(write_vtt(sheets, made.duration_s), encoding="utf-8")
    media = {"interval_s": sheets.interval_s, "count": sheets.count}
    return [
        _product(made.directory, ProductKind.THUMBNAILS, INDEX, media=media),
        *(_product(made.directory, ProductKind.THUMBNAILS, name) for name in names),
    ]


def _collect_hls(made: Made) -> list[Product]:
    """Write the master playlist and name it, the playlists, and what they play."""
    root = made.directory / HLS_DIRECTORY
    playlists: list[Product] = []
    segments: list[Product] = []

    def take(name: str, media: Mapping[str, Any]) -> hls.Bandwidth:
        playlist = hls.parse_playlist((root / name / "playlist.m3u8").read_text("utf-8"))
        pieces = [
            _product(
                made.directory,
                ProductKind.SEGMENT,
                f"{HLS_DIRECTORY}/{name}/{file}",
                rendition=name,
            )
            for file in playlist.files
        ]
        segments.extend(pieces)
        sizes = {piece.name.rpartition("/")[2]: piece.size for piece in pieces}
        bandwidth = hls.measure_bandwidth(playlist, sizes)
        playlists.append(
            _product(
                made.directory,
                ProductKind.PLAYLIST,
                rendition_file(Packaging.HLS, name),
                rendition=name,
                media={**media, "bandwidth": bandwidth.peak},
            )
        )
        return bandwidth

    variants = [
        hls.Variant(
            uri=f"{rendition.name}/playlist.m3u8",
            codec=hls.codec_of((root / rendition.name / "init.mp4").read_bytes()),
            width=rendition.width,
            height=rendition.height,
            frame_rate=made.plan.frame_rate,
            bandwidth=take(rendition.name, _media(rendition, made.renditions[rendition.name])),
        )
        for rendition in made.plan.renditions
    ]
    tracks = [
        hls.AudioRendition(
            uri=f"{track.name}/playlist.m3u8",
            language=track.language,
            title=track.title,
            default=track.default,
            channels=track.channels,
            bandwidth=take(track.name, {"audio": [{"codec": "aac", "language": track.language}]}),
        )
        for track in made.plan.tracks
    ]
    (made.directory / MASTER).write_text(hls.write_master(variants, tracks), encoding="utf-8")
    media = {"video_codec": "h264", "renditions": len(variants), "audio_tracks": len(tracks)}
    master = _product(made.directory, ProductKind.PLAYLIST, MASTER, media=media)
    return [master, *playlists, *segments]
