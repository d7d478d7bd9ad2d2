"""What the control socket answers about the cluster: the table, orders to members, keys, events.

Beside `requests`, which needs a ledger: everything here works without one, from the first second of
a peer to its last. Members are found by what people see in the table: a name, which need not be
unique, or the beginning of a uid, which then is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Protocol

import msgspec
import trio
from msgspec import Meta

from gossip import keys as rings
from gossip.errors import BadKey
from gossip.messages import Keys, Verb
from gossip.rows import State
from membership.view import Member, View
from peer.control import Command, SendItem
from peer.errors import CommandFailed
from peer.gossip_log import GossipLog
from peer.protocol import KeyHolder, Ordered, ShownKey, ShownKeys
from peer.table import lives, ring_version, shown_table, uid_text

COMMANDS = ("table", "drain", "resume", "leave", "park", "unpark", "keys", "local_events")

UID_DIGITS_MIN = 4
"""Fewer digits of a uid are not looked up: they could be anybody's, and soon are."""

LOOK_INTERVAL_S = 0.25


class Cluster(Protocol):
    """**Protocol**: the peer among the others, as far as people ask about it."""

    def view(self) -> View:
        """What this peer believes now."""
        ...

    @property
    def keys(self) -> Keys | None:
        """The key ring; None for plaintext."""
        ...

    @property
    def keys_note(self) -> str:
        """What people should know of how the ring and the settings hang together."""
        ...

    async def change_keys(self, keys: Keys) -> None:
        """Take a ring that was changed here, save it, and give it to the others."""
        ...

    async def order(self, uid: int, verb: Verb) -> bool:
        """Ask another peer for something; return whether it has heard."""
        ...


Obey = Callable[[Verb], None]
"""Do to this very peer what was ordered."""


class _Whom(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    member: str | None = None


class _Keys(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    action: Literal["list", "install", "use", "remove"] = "list"
    key: Annotated[str, Meta(max_length=4096)] = ""
    force: bool = False


class _Events(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    type: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    follow: bool = False


class ClusterRequests:
    """The commands of one peer that are about its cluster.

    Args:
        name: The peer's.
    """

    def __init__(self, cluster: Cluster, log: GossipLog, obey: Obey, *, name: str) -> None:
        self._cluster = cluster
        self._log = log
        self._obey = obey
        self._name = name
        self._changing_keys = trio.Lock()

    def commands(self) -> Mapping[str, Command]:
        """Every command by its name."""
        return {
            "table": self._table,
            "drain": self._ordering(Verb.DRAIN),
            "resume": self._ordering(Verb.RESUME),
            "leave": self._ordering(Verb.LEAVE),
            "park": self._ordering(Verb.PARK),
            "unpark": self._ordering(Verb.UNPARK),
            "keys": self._keys,
            "local_events": self._local_events,
        }

    async def _table(self, _arguments: Mapping[str, Any], _: SendItem) -> Any:
        return shown_table(self._cluster.view(), name=self._name)

    def _ordering(self, verb: Verb) -> Command:
        async def command(arguments: Mapping[str, Any], _: SendItem) -> Any:
            wanted = msgspec.convert(dict(arguments), _Whom).member
            members = self._cluster.view().members
            member = find_member(members, wanted) if wanted else _own(members)
            if member.own:
                self._obey(verb)
            elif not await self._cluster.order(member.row.uid, verb):
                raise CommandFailed(
                    f"{_named(member)} did not answer; it may have heard all the same: look again "
                    "in a moment"
                )
            return Ordered(uid=member.uid, name=member.row.body.name, own=member.own)

        return command

    async def _keys(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = msgspec.convert(dict(arguments), _Keys)
        if asked.action != "list":
            async with self._changing_keys:
                await self._cluster.change_keys(self._changed(asked))
        return self._shown_keys()

    def _changed(self, asked: _Keys) -> Keys:
        keys, view = self._cluster.keys, self._cluster.view()
        if keys is None:
            raise CommandFailed("gossip is plaintext here: there are no keys")
        try:
            match asked.action:
                case "install":
                    material = rings.parse_material(asked.key)
                    return rings.install(keys, material, origin=view.own_uid)
                case "use":
                    chosen = find_key(keys, asked.key)
                    if not asked.force:
                        _check_all_have(keys, view, "seal with it")
                    return rings.use(keys, chosen, origin=view.own_uid)
                case "remove":
                    chosen = find_key(keys, asked.key)
                    if not asked.force and chosen != keys.primary:
                        _check_all_have(keys, view, "remove it")
                    return rings.remove(keys, chosen, origin=view.own_uid)
        except BadKey as error:
            raise CommandFailed(str(error), "usage") from error
        raise AssertionError(asked.action)

    def _shown_keys(self) -> ShownKeys:
        keys, view = self._cluster.keys, self._cluster.view()
        if keys is None:
            return ShownKeys(version=0, origin="", keys=(), holders=())
        return ShownKeys(
            version=keys.version,
            origin=uid_text(keys.origin) if keys.version else "",
            keys=tuple(
                ShownKey(
                    id=number,
                    fingerprint=rings.fingerprint(material),
                    primary=number == keys.primary,
                )
                for number, material in keys.keys
            ),
            holders=_holders(view, keys),
            note=self._cluster.keys_note,
        )

    async def _local_events(self, arguments: Mapping[str, Any], send_item: SendItem) -> Any:
        asked = msgspec.convert(dict(arguments), _Events)
        after, limit = 0, asked.limit
        while True:
            noticed = self._log.recent(after=after)
            wanted = [one for one in noticed if asked.type in (None, one.type)]
            for one in wanted[-limit:] if limit else wanted:
                await send_item(one)
            after = noticed[-1].number if noticed else after
            if not asked.follow:
                return {}
            limit = 0  # from now on all of it
            await trio.sleep(LOOK_INTERVAL_S)


def find_member(members: tuple[Member, ...], wanted: str) -> Member:
    """The living member of that name, or whose uid begins so.

    Raises:
        CommandFailed: There is none, or several; the message names those that there are.
    """
    living = [member for member in members if lives(member)]
    found = [member for member in living if member.row.body.name == wanted]
    if not found and len(wanted) >= UID_DIGITS_MIN:
        found = [member for member in living if member.uid.startswith(wanted.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        them = ", ".join(f"{_named(member)} on {member.row.body.node}" for member in found)
        raise CommandFailed(f"{wanted!r} could be {them}; say which by its uid", "usage")
    for member in members:
        if wanted == member.row.body.name or (
            len(wanted) >= UID_DIGITS_MIN and member.uid.startswith(wanted.lower())
        ):
            state = "is dead" if member.state is State.DEAD else "has left"
            raise CommandFailed(f"{_named(member)} {state}", "not_found")
    names = ", ".join(sorted(member.row.body.name for member in living))
    raise CommandFailed(f"no member is called {wanted!r}; there are {names}", "not_found")


def find_key(keys: Keys, wanted: str) -> int:
    """The id of the key with that id, or whose fingerprint begins so.

    Raises:
        CommandFailed: There is none, or several.
    """
    prints = {number: rings.fingerprint(material) for number, material in keys.keys}
    found = {
        number
        for number, text in prints.items()
        if wanted == str(number) or (wanted and text.startswith(wanted.lower()))
    }
    if len(found) == 1:
        return found.pop()
    ring = ", ".join(f"{number} ({text})" for number, text in prints.items())
    why = "could be several keys" if found else "is not in the ring"
    raise CommandFailed(f"{wanted!r} {why}; there are {ring}", "usage")


def _check_all_have(keys: Keys, view: View, purpose: str) -> None:
    """Refuse while a living member does not have the ring: it would hear nobody any more."""
    lacking = [holder for holder in _holders(view, keys) if not holder.current]
    if lacking:
        names = ", ".join(f"{holder.name} ({holder.uid[:8]})" for holder in lacking)
        raise CommandFailed(
            f"{names} does not have version {keys.version} of the ring yet; wait until it has, or "
            f"{purpose} all the same with --force"
        )


def _holders(view: View, keys: Keys) -> tuple[KeyHolder, ...]:
    """The living and their versions; of itself a peer knows better than its row."""
    stamp = rings.stamp(keys)
    living = sorted(
        (member for member in view.members if lives(member)),
        key=lambda member: (member.row.body.name, member.uid),
    )
    return tuple(
        KeyHolder(
            uid=member.uid,
            name=member.row.body.name,
            version=keys.version if member.own else ring_version(member.row.body.keys),
            current=member.own or member.row.body.keys == stamp,
            own=member.own,
        )
        for member in living
    )


def _own(members: tuple[Member, ...]) -> Member:
    return next(member for member in members if member.own)


def _named(member: Member) -> str:
    return f"{member.row.body.name} ({member.uid})"
