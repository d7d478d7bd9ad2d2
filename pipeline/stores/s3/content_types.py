"""What an object says it is, so that a player can be pointed at the bucket itself.

The system's table of types is not asked: it differs from machine to machine.
"""

from __future__ import annotations

TYPES = {
    "m3u8": "application/vnd.apple.mpegurl",
    "m4s": "video/iso.segment",
    "mp4": "video/mp4",
    "jpg": "image/jpeg",
    "png": "image/png",
    "vtt": "text/vtt",
    "json": "application/json",
}
OTHER = "application/octet-stream"


def content_type(key: str) -> str:
    """By the ending of its name."""
    return TYPES.get(key.rpartition(".")[2].lower(), OTHER)
