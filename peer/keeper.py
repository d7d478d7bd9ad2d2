"""Keeps on disk what the next start needs and gossip may change: the key ring, and the identity.

One writer, which does not write what it is told but looks at what is *in use*, and looks again when
it has written: of two changes that come while the disk is slow, the file ends up with the one that
counts, in whatever order they were told, and also when nobody told it. Rejected: to save each
change as it comes, where two threads race for the last rename.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import trio

from gossip.messages import Keys
from peer import identity
from peer.identity import Identity, IdentityUnusable
from peer.keyring import KeyStore, KeysUnusable

log = logging.getLogger(__name__)

LOOK_S = 10.0
"""How often it looks although nobody has told it, and how soon a disk that refused is tried
again."""


class Keeper:
    """Saves a ring and an identity whenever others than the saved ones are in use.

    Args:
        keys, own: What is in use now.
        saved_keys, saved_own: What the next start would find now, or begin with by itself.
        file: Where the identity is kept.
    """

    def __init__(
        self,
        *,
        keys: Callable[[], Keys | None],
        own: Callable[[], Identity],
        saved_keys: Keys | None,
        saved_own: Identity,
        store: KeyStore,
        file: Path,
    ) -> None:
        self._keys = keys
        self._own = own
        self._store = store
        self._file = file
        self._saved_keys = saved_keys
        self._saved_own = saved_own
        self._saving = trio.Lock()
        self._news = trio.Event()

    def notice(self) -> None:
        """Look soon: something may have changed. Synchronous, cheap, never fails."""
        self._news.set()

    async def run(self) -> None:
        """Save what changes, until cancelled. A disk that refuses is no reason to stop working."""
        is_said = False
        while True:
            self._news = trio.Event()
            try:
                await self.save()
                is_said = False
            except (KeysUnusable, IdentityUnusable) as error:
                if not is_said:
                    log.error(  # noqa: TRY400 - a sentence for a person; no traceback says more
                        "not saved: a start before it is begins with what was there before",
                        extra={"action": "save", "error": str(error)},
                    )
                is_said = True
            with trio.move_on_after(LOOK_S):
                await self._news.wait()

    async def save(self) -> None:
        """Save what is in use now, unless it is saved already.

        Raises:
            KeysUnusable, IdentityUnusable: It could not be written; it is tried again.
        """
        async with self._saving:
            while (own := self._own()) != self._saved_own:
                await trio.to_thread.run_sync(identity.save, self._file, own)
                self._saved_own = own
            while (keys := self._keys()) is not None and keys != self._saved_keys:
                await trio.to_thread.run_sync(self._store.save, keys)
                self._saved_keys = keys
