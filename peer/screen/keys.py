"""The key ring on a terminal: fingerprints, and who has which version. Never a key."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from peer.protocol import KeyHolder, ShownKeys
from peer.screen.tables import plain_table


def keys_page(shown: ShownKeys) -> Iterator[RenderableType]:
    """Yield what is printed, one after the other."""
    if not shown.keys:
        yield Text("Gossip is plaintext here: there are no keys.", style="warn")
        return
    table = plain_table(("ID", {"justify": "right"}), "FINGERPRINT", "USE")
    for key in shown.keys:
        use = Text("seals and opens", style="good") if key.primary else Text("opens")
        table.add_row(str(key.id), Text(key.fingerprint, style="title"), use)
    yield table
    yield Text("")
    yield _spread(shown)
    if shown.note:
        yield Text(shown.note, style="warn")


def _spread(shown: ShownKeys) -> Text:
    """Who has it: all in a word, or those who do not by name."""
    behind = [holder for holder in shown.holders if not holder.current]
    have = len(shown.holders) - len(behind)
    line = Text(f"Version {shown.version} of the ring: ")
    if not behind:
        members = "its only member has" if have == 1 else f"all {have} living members have"
        line.append(f"{members} it.", style="good")
        return line
    line.append(f"{have} of {len(shown.holders)} living members have it. ")
    line.append(f"Not yet: {', '.join(map(_holder, behind))}.", style="warn")
    return line


def _holder(holder: KeyHolder) -> str:
    return f"{holder.name} ({holder.uid[:8]}, version {holder.version})"
