"""What may be shown to anybody: settings without what is secret in them, and texts without secrets.

Two nets, because each has holes. Settings that are marked as secret are never shown, but for where
a server is; that misses a password that somebody wrote where none belongs, or that a library puts
into an error. And every text is searched for the secrets that are known here, and for what looks
like one (a password in a URL, a Swarm's join token); that misses what nobody here knows. Rejected
as the only one: to leave out what might be secret by its name. It finds `key_file` and not
`hunter2`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import reduce
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from gossip.errors import BadKey
from gossip.keys import parse_material
from peer.config import Config
from peer.options import Option, options_of

HIDDEN: Final = "***"

LENGTH_MIN: Final = 4
"""Shorter ones are not searched for: they are in every text."""

_ENVIRONMENT: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD",
)  # fmt: skip
"""Variables of others that hold secrets which our libraries read."""

_SERVERS: Final = frozenset({"ledger.url", "queue.url"})
"""Secret settings of which people need to know which server they mean."""

_IN_URL = re.compile(r"(?<=://)[^\s/@'\"]*:[^\s@'\"]*(?=@)")
_NAMED = re.compile(r"(?i)(password['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s&'\",;]+)")
_NAME = re.compile(r"(?i).*(password|secret|token)")
_JOIN_TOKEN = re.compile(r"SWMTKN-[\w-]+")
_PLAIN = re.compile(r"localhost|[0-9.]*")
"""Pieces of an address that are in many texts, and give nobody anything: this machine, a port."""
_SERVER = re.compile(r"[\w.-]*|\[[0-9A-Fa-f:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")


def disclosed(config: Config) -> dict[str, Any]:
    """Every setting by its path, as JSON values; secret ones hidden, None where not set."""
    scrubber = Scrubber(secrets_of(config, {}))
    return {option.path: _shown(option, config, scrubber) for option in options_of(Config)}


def _shown(option: Option, config: Config, scrubber: Scrubber) -> Any:
    value = _value(config, option.path)
    if option.secret and value:
        return server_of(value) if option.path in _SERVERS else HIDDEN
    if isinstance(value, Mapping):
        return dict.fromkeys(value, HIDDEN)  # a library's own arguments: some are passwords
    return scrubber.document(_plain(value))


def server_of(url: str) -> str:
    """Where a URL leads, without who goes there and how: `postgresql://***@db:5432/film?***`.

    A URL in which anything may be a piece of a password, for it was not written as it must be, is
    hidden whole.
    """
    scheme, _, rest = url.partition("://")
    if not re.fullmatch(r"[a-z]+", scheme) or rest.count("@") > 1:
        return HIDDEN
    place, _, options = rest.partition("?")
    servers, slash, path = place.partition("/")
    who, at, servers = servers.rpartition("@")
    known = all(map(_is_server, servers.split(",")))
    if "@" in options or "@" in path or "#" in rest or not known:
        return HIDDEN
    hidden_options = f"?{HIDDEN}" if options else ""
    return f"{scheme}://{HIDDEN if who else ''}{at}{servers}{slash}{path}{hidden_options}"


def _is_server(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return _SERVER.fullmatch(text) is not None
    return _SERVER.fullmatch(host) is not None and _PORT.fullmatch(port) is not None


def secrets_of(config: Config, environment: Mapping[str, str]) -> set[str]:
    """Every secret that the settings and the environment hold, in each way it may be written."""
    found = {environment[name] for name in _ENVIRONMENT if environment.get(name)}
    for option in options_of(Config):
        value = _value(config, option.path)
        if isinstance(value, Mapping):
            found.update(each for each in value.values() if isinstance(each, str))
        elif option.secret and value:
            for each in (value,) if isinstance(value, str) else value:
                found.update(_pieces(each))
    if config.gossip.key is not None:
        found.update(_key_texts(config.gossip.key))
    return {*found, *map(unquote, found), *(quote(each, safe="") for each in found)}


def _pieces(secret: str) -> Iterator[str]:
    """A secret, and of a URL also its password, its path and its options."""
    yield secret
    scheme, _, rest = secret.partition("://")
    if not rest:
        return
    yield rest
    who, at, place = rest.rpartition("@")
    if at:
        yield from (who, who.partition(":")[2])
    if scheme not in ("postgresql", "postgres", "amqp", "amqps"):
        # Of a notice's address every piece may be the token: the user, a path, an option.
        pieces = re.split(r"[/:?&=,;]+", place if at else rest)
        yield from (piece for piece in pieces if not _PLAIN.fullmatch(piece))
        yield who.partition(":")[0]
    for name, _, value in (each.partition("=") for each in re.split(r"[?&]", place)[1:]):
        if "password" in name.lower():
            yield value


def _key_texts(text: str) -> Iterator[str]:
    """A gossip key as hexadecimal digits and in both kinds of base64."""
    try:
        material = parse_material(text)
    except BadKey:  # the settings would not have been taken
        return
    yield material.hex()
    for encoded in (base64.b64encode(material), base64.urlsafe_b64encode(material)):
        yield from (encoded.decode(), encoded.decode().rstrip("="))


class Scrubber:
    """Takes secrets out of texts.

    Args:
        secrets: Those that are known; besides, what looks like one is taken out.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        searched = {each for each in secrets if len(each) >= LENGTH_MIN}
        # The longest first: of a URL and its password, the URL.
        ordered = sorted(searched, key=lambda each: (-len(each), each))
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """The same without secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        text = _IN_URL.sub(HIDDEN, text)
        text = _NAMED.sub(rf"\1{HIDDEN}", text)
        return _JOIN_TOKEN.sub(HIDDEN, text)

    def document(self, value: Any) -> Any:
        """A JSON document of the same shape, each text in it without secrets."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {
                    self.text(str(name)): self._named(name, each) for name, each in value.items()
                }
            case list() | tuple():
                return [self.document(each) for each in value]
        return value

    def _named(self, name: Any, value: Any) -> Any:
        if isinstance(value, str) and value and _NAME.fullmatch(str(name)):
            return HIDDEN
        return self.document(value)


def _value(config: Config, path: str) -> Any:
    return reduce(getattr, path.split("."), config)


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case Path():
            return str(value)
        case list() | tuple():
            return [_plain(each) for each in value]
        case None | bool() | int() | float() | str():
            return value
    return str(value)
