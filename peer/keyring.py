"""Where a peer's gossip keys come from, and where a ring that was changed is kept.

    the ring saved in the peer's directory    changed while it ran: `peerctl keys`
    the configured key                        the same for every peer of the cluster
    the data directory's ring                 made by the first peer of a machine without a key

Of the saved ring and what is below it the newer one counts, and what was configured is always the
oldest: rotation must survive a restart with the old settings, or removing a key would cut off every
peer whose settings nobody has changed yet. The price: a key that is put into the settings of a
*stopped* cluster whose peers have saved a ring is not used, so that is said, in the log and by
`peerctl keys` and `peerctl doctor`, with the file to remove. To take it for the newer one instead
would be a guess that, when wrong, splits a running cluster.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from gossip import keys as rings
from gossip.errors import BadKey
from gossip.messages import Keys
from peer.config import GossipSettings
from peer.errors import PeerError
from peer.files import create_file, replace_file
from peer.paths import Places
from peer.terminal import program


class KeysUnusable(PeerError):
    """There is no key, or none that can be used; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """What a peer starts with.

    Args:
        keys: None for plaintext.
        note: What a person should know of how it came about; empty when all is as expected.
    """

    keys: Keys | None
    note: str = ""


class KeyStore:
    """Reads and keeps the ring of one peer.

    Args:
        places: Of the data directory.
        name: The peer's; its directory exists.
    """

    def __init__(self, settings: GossipSettings, places: Places, name: str) -> None:
        self._settings = settings
        self._saved = places.peer(name).gossip_keys
        self._shared = places.gossip_keys

    def load(self, *, beyond_machine: bool) -> Ring:
        """Find the keys, and make one for this machine where there is none.

        Args:
            beyond_machine: Others than this machine's peers are to be talked to, so a key that is
                made here would be no use.

        Raises:
            KeysUnusable: There is none, or a file is damaged or cannot be read or written.
        """
        if self._settings.plaintext:
            if beyond_machine:
                raise KeysUnusable(
                    "gossip.plaintext is for this machine alone: listen on 127.0.0.1 or [::1], or "
                    "leave it out"
                )
            return Ring(keys=None)
        saved = _read(self._saved)
        if self._settings.key is None:
            shared = _read(self._shared)
            if shared is None and saved is not None:
                return Ring(keys=saved)
            shared = shared or self._make_shared(beyond_machine=beyond_machine)
            return Ring(keys=rings.newer(saved, shared) if saved else shared)
        material = rings.parse_material(self._settings.key)
        configured = rings.first(material)
        if saved is None:
            return Ring(keys=configured)
        keys = rings.newer(saved, configured)
        return Ring(keys=keys, note=self.note(keys))

    def note(self, keys: Keys) -> str:
        """What a person should know of this ring and the settings; empty when they agree."""
        if self._settings.key is None:
            return ""
        return _note(keys, rings.parse_material(self._settings.key), self._saved)

    def save(self, keys: Keys) -> None:
        """Keep a ring that was changed, for the next start of this peer, and of new ones here.

        Raises:
            KeysUnusable: It could not be written. This peer goes on with the ring all the same.
        """
        try:
            replace_file(self._saved, rings.to_text(keys))
            if self._settings.key is None:
                # Another peer of this machine may write a version that it met earlier over ours;
                # it meets ours, too, and writes it then.
                shared = _read(self._shared)
                if shared is None or rings.newer(shared, keys) == keys:
                    replace_file(self._shared, rings.to_text(keys))
        except OSError as error:
            raise KeysUnusable(f"cannot save the key ring: {error}") from error

    def _make_shared(self, *, beyond_machine: bool) -> Keys:
        if beyond_machine:
            raise KeysUnusable(
                "gossip with other machines needs a key, the same for all peers of the cluster. "
                f"Make one with '{program('peerctl')} keys generate > FILE', give every machine a "
                "copy that only the peers' user can read, and name it in gossip.key_file or "
                "GRAPEVINE_GOSSIP_KEY_FILE"
            )
        made = rings.first(secrets.token_bytes(rings.KEY_BYTES))
        try:
            create_file(self._shared, rings.to_text(made))
        except OSError as error:
            raise KeysUnusable(f"cannot write {self._shared}: {error.strerror}") from error
        there = _read(self._shared)
        if there is None:
            raise KeysUnusable(f"{self._shared} was removed while the peer started; start it again")
        return there


def _read(file: Path) -> Keys | None:
    try:
        return rings.from_text(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise KeysUnusable(f"cannot read {file}: {error}") from error
    except BadKey as error:
        raise KeysUnusable(
            f"{file} does not hold a key ring ({error}); put back a copy of another peer's, or "
            "remove it, and what is configured counts"
        ) from error


def _note(keys: Keys, configured: bytes, file: Path) -> str:
    if any(material == configured for _, material in keys.keys):
        return ""
    return (
        f"The configured key {rings.fingerprint(configured)} is not in the key ring that was "
        f"changed while the cluster ran (version {keys.version}, in {file}), and is not used. "
        "Put a key of the ring into the settings. Or, to begin anew with the configured one, stop "
        "all peers and remove that file of each."
    )
