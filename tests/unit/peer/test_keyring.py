"""Where the keys come from, and what is kept of a ring that was changed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gossip import keys as rings
from gossip.messages import Keys
from peer.config import GossipSettings
from peer.keyring import KeyStore, KeysUnusable
from peer.paths import Places

CONFIGURED = "11" * 32
FIRST = rings.first(bytes.fromhex(CONFIGURED))
OTHER = bytes.fromhex("22" * 32)


def store(data_dir: Path, name: str = "one", *, key: str | None = None) -> KeyStore:
    places = Places(data_dir)
    places.peer(name).directory.mkdir(parents=True, exist_ok=True)
    return KeyStore(GossipSettings(key=key), places, name)


def rotated() -> Keys:
    """The ring after another key has taken the configured one's place."""
    ring = rings.use(rings.install(FIRST, OTHER, origin=7), rings.key_id(OTHER), origin=7)
    return rings.remove(ring, FIRST.primary, origin=7)


def test_the_peers_of_a_machine_share_a_key_that_one_of_them_makes(tmp_path: Path) -> None:
    """Eight that start at once have the same ring, in a file that only their user reads."""
    stores = [store(tmp_path, f"peer-{number}") for number in range(8)]
    together = threading.Barrier(8)
    found: list[Keys | None] = []

    def load(store: KeyStore) -> None:
        together.wait()
        found.append(store.load(beyond_machine=False).keys)

    threads = [threading.Thread(target=load, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is not None
    assert found == [found[0]] * 8
    assert Places(tmp_path).gossip_keys.stat().st_mode & 0o777 == 0o600


def test_a_key_of_this_machine_is_none_for_others(tmp_path: Path) -> None:
    """Beyond the machine a key must be given; a file that is there already is one."""
    with pytest.raises(KeysUnusable, match=r"keys generate > FILE.*gossip\.key_file"):
        store(tmp_path).load(beyond_machine=True)
    assert not Places(tmp_path).gossip_keys.exists()
    Places(tmp_path).gossip_keys.write_text(rings.to_text(FIRST))
    assert store(tmp_path).load(beyond_machine=True).keys == FIRST


def test_a_configured_key_is_what_every_peer_begins_with(tmp_path: Path) -> None:
    """Two peers with the same key have equal rings, and nothing is written for it."""
    assert store(tmp_path, key=CONFIGURED).load(beyond_machine=True).keys == FIRST
    assert store(tmp_path, "two", key=CONFIGURED).load(beyond_machine=False).keys == FIRST
    assert not list(tmp_path.rglob("*.keys"))


def test_a_rotation_survives_a_restart_with_the_old_settings(tmp_path: Path) -> None:
    """The saved ring counts, private; that the configured key is not in it is said, with a way
    out, and the key itself is not."""
    store(tmp_path, key=CONFIGURED).save(rotated())
    ring = store(tmp_path, key=CONFIGURED).load(beyond_machine=True)
    assert ring.keys == rotated()
    saved = Places(tmp_path).peer("one").gossip_keys
    assert saved.stat().st_mode & 0o777 == 0o600
    assert rings.fingerprint(bytes.fromhex(CONFIGURED)) in ring.note
    assert str(saved) in ring.note
    assert CONFIGURED not in ring.note
    assert store(tmp_path, key=OTHER.hex()).load(beyond_machine=True).note == ""
    assert not Places(tmp_path).gossip_keys.exists()


def test_new_peers_of_a_machine_begin_with_the_rotated_ring(tmp_path: Path) -> None:
    """Without a configured key the machine's ring follows; an older one never replaces it."""
    assert store(tmp_path).load(beyond_machine=False).keys is not None
    Places(tmp_path).gossip_keys.write_text(rings.to_text(FIRST))
    store(tmp_path, "one").save(rotated())
    store(tmp_path, "two").save(rings.install(FIRST, OTHER, origin=7))
    assert store(tmp_path, "new").load(beyond_machine=False).keys == rotated()
    # And who was away meets the newer one here.
    assert store(tmp_path, "two").load(beyond_machine=False).keys == rotated()


def test_a_saved_ring_is_enough(tmp_path: Path) -> None:
    """A peer that has one needs neither a setting nor the machine's file."""
    store(tmp_path).save(rotated())
    Places(tmp_path).gossip_keys.unlink()
    assert store(tmp_path).load(beyond_machine=True).keys == rotated()


@pytest.mark.parametrize("content", ["", "{}", "[" * 5000, '{"version": "x"}', "\0"])
def test_a_damaged_ring_is_said(tmp_path: Path, content: str) -> None:
    """It is neither ignored (that could split a cluster) nor a traceback; the file is named."""
    Places(tmp_path).gossip_keys.write_text(content)
    with pytest.raises(KeysUnusable, match=r"gossip\.keys does not hold a key ring"):
        store(tmp_path).load(beyond_machine=False)


def test_plaintext_is_for_this_machine(tmp_path: Path) -> None:
    """No key where it was asked for, and never beyond the machine."""
    places = Places(tmp_path)
    plain = KeyStore(GossipSettings(plaintext=True), places, "one")
    assert plain.load(beyond_machine=False).keys is None
    with pytest.raises(KeysUnusable, match="for this machine alone"):
        plain.load(beyond_machine=True)


def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    """Saving fails with a sentence."""
    saving = store(tmp_path, key=CONFIGURED)
    Places(tmp_path).peer("one").directory.rmdir()
    with pytest.raises(KeysUnusable, match="cannot save the key ring"):
        saving.save(rotated())
