"""Answers that come too slowly, each in its own way, straight from a socket."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from pipeline.stores.s3.pace import FLOOR_BYTES, PacedResponse
from pipeline.stores.s3.problems import Lost

TIMEOUT_S = 1.0
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

TRICKLES = {
    "status": (b"HTTP/1.1 200 ", b"O", "headers"),
    "header": (OK + b"X-Slow: ", b"a", "headers"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "headers"),
    "body": (OK + b"Content-Length: 1000000\r\n\r\n", b"a", "64 KiB"),
    "chunk-size": (CHUNKED, b"0", "64 KiB"),
    "trailer": (CHUNKED + b"1\r\na\r\n0\r\n", b"X-Slow: a\r\n", "64 KiB"),
}

Answer = Callable[..., PacedResponse]


@pytest.fixture
def answer() -> Iterator[Answer]:
    """An answer that begins so and then goes on, a little at a time, until nobody listens."""
    ours, theirs = socket.socketpair()
    ours.settimeout(TIMEOUT_S)
    threads: list[threading.Thread] = []

    def make(begin: bytes, again: bytes = b"") -> PacedResponse:
        def send() -> None:
            with suppress(OSError):
                theirs.sendall(begin)
                while again:
                    time.sleep(0.01)
                    theirs.sendall(again)

        threads.append(threading.Thread(target=send))
        threads[0].start()
        return PacedResponse(ours)

    yield make
    ours.close()
    theirs.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    theirs.close()


def read(response: PacedResponse) -> int:
    """Read all of it, and count its body."""
    response.begin()
    return sum(map(len, iter(lambda: response.read1(1 << 18), b"")))


@pytest.mark.parametrize("kind", TRICKLES)
def test_trickles(answer: Answer, kind: str) -> None:
    """Wherever in an answer a byte comes now and then, the answer is given up."""
    begin, again, where = TRICKLES[kind]
    response = answer(begin, again)
    began = time.monotonic()
    with pytest.raises(Lost, match=where):
        read(response)
    response.close()

    assert time.monotonic() - began < 20 * TIMEOUT_S


@pytest.mark.parametrize("begin", [b"", OK + b"Content-Length: 5\r\n\r\n"], ids=["head", "body"])
def test_silence(answer: Answer, begin: bytes) -> None:
    """Where nothing comes it is the socket's own timeout that speaks."""
    response = answer(begin)
    with pytest.raises(TimeoutError):
        read(response)
    response.close()


def test_a_slow_reader(answer: Answer) -> None:
    """The time that a reader takes for what has come is not the sender's."""
    size = 4 * FLOOR_BYTES
    response = answer(OK + f"Content-Length: {size}\r\n\r\n".encode() + b"a" * size)
    response.begin()
    received = 0
    for pause_s in itertools.chain([2 * TIMEOUT_S], itertools.repeat(0.0)):
        block = response.read1(FLOOR_BYTES // 2)
        if not block:
            break
        received += len(block)
        time.sleep(pause_s)
    response.close()

    assert received == size


def test_a_long_answer(answer: Answer) -> None:
    """One that takes longer than a timeout is well as long as enough comes in each."""
    blocks = 150
    size = blocks * FLOOR_BYTES
    response = answer(OK + f"Content-Length: {size}\r\n\r\n".encode(), b"a" * FLOOR_BYTES)
    began = time.monotonic()

    assert read(response) == size
    assert time.monotonic() - began > TIMEOUT_S
