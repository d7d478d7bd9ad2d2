"""Handing out what a task has made, to whoever asks over the control socket.

A store inside a cluster's network is reached by its peers and by nobody else, so a person gets the
outputs from where he gets all answers. An address of the store with a signature in it, as S3 knows
them, would be shorter, and of no use to whoever cannot reach the store.

The content goes as base64 in JSON lines, as everything on that socket does: a third more bytes, on
a connection within one machine, and no second protocol.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import trio

from peer.control import SendItem
from peer.protocol import FetchedBytes, FetchedFile
from pipeline.ports import ObjectStore
from pipeline.tasks import OutputReport

CHUNK_BYTES = 256 * 1024


async def hand_out(
    outputs: Sequence[OutputReport], store: ObjectStore, scratch: Path, send_item: SendItem
) -> None:
    """Send every file: its name and size, and then what is in it.

    One at a time is copied here from the store, whole, and removed when it was sent: so what is
    sent has the size that was said, and there is room for the largest if there is room to work.

    Raises:
        PullFailed: One is not there any more, or could not be read.
        StoreUnavailable: The store does not answer.
    """
    copy = trio.Path(scratch, f"fetch-{secrets.token_hex(8)}")
    for output in outputs:
        try:
            size = await store.pull(output.key, Path(copy))
            await send_item(FetchedFile(name=output.name, size=size))
            async with await copy.open("rb") as content:
                while chunk := await content.read(CHUNK_BYTES):
                    await send_item(FetchedBytes(content=chunk))
        finally:
            with trio.CancelScope(shield=True):
                await copy.unlink(missing_ok=True)
