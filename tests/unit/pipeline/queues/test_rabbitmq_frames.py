"""Messages with properties that pika cannot read: legal ones, and others."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from pika import ConnectionParameters, data, spec
from pika.exceptions import InvalidFrameError
from pika.frame import Header

from pipeline.queues.rabbitmq.adapter import TrioConnection

BODY_BYTES = 42


def frame(value: bytes, *, kind: int = spec.FRAME_HEADER, end: int = spec.FRAME_END) -> bytes:
    """What introduces a body, with one header `h` of that value."""
    table = b"\x01h" + value
    flags = spec.BasicProperties.FLAG_HEADERS
    properties = struct.pack(">HL", flags, len(table)) + table
    payload = struct.pack(">HHQ", spec.Basic.INDEX, 0, BODY_BYTES) + properties
    return struct.pack(">BHL", kind, 1, len(payload)) + payload + bytes([end])


@pytest.fixture
async def read() -> Callable[[bytes], tuple[int, object]]:
    """Read one frame, as a connection does."""
    connection = TrioConnection(ConnectionParameters(), lambda _: None)

    def read(data: bytes) -> tuple[int, object]:
        connection._frame_buffer = data
        return connection._read_frame()

    return read


@pytest.mark.parametrize(
    "value",
    [
        b"T" + struct.pack(">Q", 1_700_000_000_000),
        b"T" + struct.pack(">Q", 2**64 - 1),
        b"d" + struct.pack(">d", float("nan")),
        b"f" + struct.pack(">f", float("inf")),
        b"Z1234",
        b"I\0",
        b"F\0\0\0\x0a\x01a" * 3000,
    ],
    ids=["milliseconds", "doomsday", "nan", "infinity", "unknown", "short", "deep"],
)
async def test_what_cannot_be_read(
    read: Callable[[bytes], tuple[int, object]], value: bytes
) -> None:
    """The message comes, whole, without its properties; what follows it is not touched."""
    given = frame(value)
    used, header = read(given + b"next")
    assert used == len(given)
    assert isinstance(header, Header)
    assert (header.channel_number, header.body_size) == (1, BODY_BYTES)
    assert not header.properties.headers


async def test_what_can_be_read(read: Callable[[bytes], tuple[int, object]]) -> None:
    """Nothing is lost of it; and a part of a frame is none yet."""
    pieces: list[bytes] = []
    data.encode_value(pieces, "seen")
    given = frame(b"".join(pieces))
    used, header = read(given)
    assert used == len(given)
    assert isinstance(header, Header)
    assert header.properties.headers == {"h": "seen"}
    assert read(given[:-1]) == (0, None)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (frame(b"t\1", end=0), InvalidFrameError),
        (frame(b"t\1", kind=9), InvalidFrameError),
        (frame(b"t\1", kind=spec.FRAME_METHOD), KeyError),
    ],
    ids=["end", "kind", "method"],
)
async def test_what_no_broker_says(
    read: Callable[[bytes], tuple[int, object]], given: bytes, error: type[Exception]
) -> None:
    """Is nothing that one could go on after."""
    with pytest.raises(error):
        read(given)
