"""Settings as dataclasses, filled from layers of text: the mechanism, which knows no setting.

A section is a frozen dataclass, a setting one of its fields, and the field's annotation says what
is allowed (`msgspec.Meta` for bounds). From that alone come the names in files, environment and
flags, the conversion, and the sentence that says what was expected and where the wrong value came
from. A settings library would bring its own model classes, three times the import time, and errors
in its own words.

Three layers can name a setting: a flag, the environment and a TOML file, in this order of
precedence; what none of them names keeps the dataclass's default.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import math
import re
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from peer.errors import ConfigError

SECRET = {"secret": True}
"""Field metadata: the value may also come from a file that is named, and is never printed."""

DERIVED = "derived"
"""The key of field metadata that says: no setting of its own, but filled in from another one."""

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    Args:
        path: Its sections and its name, as in `peer.slots`.
        annotation: The field's type, with its bounds.
    """

    path: str
    annotation: Any
    secret: bool = False

    def variable(self, prefix: str) -> str:
        """The environment variable that sets it."""
        return prefix + self.path.replace(".", "_").upper()


@dataclass(frozen=True, slots=True)
class Given:
    """A value that somebody gave, not yet converted.

    Args:
        origin: For people: `environment GRAPEVINE_PEER_SLOTS`.
        base: What a relative path is relative to.
    """

    option: Option
    value: Any
    origin: str
    base: Path


def options_of(section: type, prefix: str = "") -> Iterator[Option]:
    """Yield every setting of a tree of dataclasses, in the order of their definition."""
    hints = typing.get_type_hints(section, include_extras=True)
    for field in dataclasses.fields(section):
        annotation, path = hints[field.name], prefix + field.name
        if field.metadata.get(DERIVED):
            continue
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            yield from options_of(annotation, path + ".")
        else:
            yield Option(path, annotation, bool(field.metadata.get("secret")))


def from_flags(options: Mapping[str, Option], flags: Mapping[str, Any]) -> Iterator[Given]:
    """Take flags by the paths of their settings; a flag that is None was not given."""
    for path, value in flags.items():
        if value is not None:
            origin = f"option --{_flag(path)}"
            yield _given(options, path, value, origin, Path.cwd())


def _flag(path: str) -> str:
    """What people type: the sections that have most of the flags are left out of their names."""
    for section in ("peer.", "gossip.", "scaling."):
        path = path.removeprefix(section)
    return path.replace(".", "-").replace("_", "-")


def from_assignments(options: Mapping[str, Option], assignments: Iterable[str]) -> Iterator[Given]:
    """Take `section.key=value` texts, as `--set` gives them."""
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"option --set {text}: write it as section.key=value")
        yield _given(options, path.strip(), value.strip(), f"option --set {path}", Path.cwd())


def from_environment(
    options: Mapping[str, Option],
    environment: Mapping[str, str],
    prefix: str,
    reserved: Collection[str] = (),
) -> Iterator[Given]:
    """Take every variable that starts with the prefix; an empty one counts as not given.

    `<variable>_FILE` names a file that holds a secret setting's value.
    """
    by_variable = {option.variable(prefix): option for option in options.values()}
    by_file = {f"{name}_FILE": option for name, option in by_variable.items() if option.secret}
    known = [*by_variable, *by_file, *reserved]
    for name in sorted(environment):
        value = environment[name]
        if not name.startswith(prefix) or name in reserved or not value:
            continue
        origin = f"environment {name}"
        if option := by_variable.get(name):
            yield Given(option, value, origin, Path.cwd())
        elif option := by_file.get(name):
            plain = name.removesuffix("_FILE")
            if environment.get(plain):
                raise ConfigError(f"{plain} and {name} are both set; unset one of them")
            yield Given(option, _secret(Path(value), origin), f"{origin} ({value})", Path.cwd())
        else:
            raise ConfigError(f"{origin}: there is no such setting{_nearest(name, known)}")


def from_file(options: Mapping[str, Option], file: Path) -> Iterator[Given]:
    """Take a TOML file whose tables are the sections."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {file} is not TOML: {error}") from error
    for path, value in _leaves(options, document, file):
        yield _given(options, path, value, f"{file}: {path}", file.absolute().parent)


def _given(options: Mapping[str, Option], path: str, value: Any, origin: str, base: Path) -> Given:
    """Find the setting of that path; `<path>_file` names a file that holds a secret one's value."""
    if option := _in_file(options, path):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{origin}: expected a path, got {value!r}")
        file = base / Path(value).expanduser()
        return Given(option, _secret(file, origin), f"{origin} ({file})", base)
    return Given(_known(options, path, "setting"), value, origin, base)


def _in_file(options: Mapping[str, Option], path: str) -> Option | None:
    """The secret setting whose value is in the file that a setting of this path names."""
    option = None if path in options else options.get(path.removesuffix("_file"))
    return option if option and option.secret else None


def _leaves(
    options: Mapping[str, Option], table: Mapping[str, Any], file: Path, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        path = prefix + key
        inside = [known for known in options if known.startswith(path + ".")]
        if inside and isinstance(value, dict):
            yield from _leaves(options, value, file, path + ".")
        elif inside:
            raise ConfigError(f"{file}: {path} is a section; write it as [{path}]")
        elif path in options or _in_file(options, path):
            yield path, value
        else:
            what = "section" if isinstance(value, dict) else "setting"
            nearest = _nearest_path(options, path, what)
            raise ConfigError(f"{file}: there is no {what} {path!r}{nearest}")


def _secret(file: Path, origin: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{origin}: cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{origin}: cannot read {file}: {error}") from error


def build(
    section: type[Any], defaults: Mapping[str, Any], layers: Iterable[Iterable[Given]]
) -> Any:
    """Fill a tree of dataclasses.

    Args:
        defaults: Values by path for fields without a default of their own.
        layers: From the strongest to the weakest.

    Raises:
        ConfigError: One sentence: where the value came from, what was expected, what it was.
    """
    chosen: dict[str, Given] = {}
    for layer in layers:
        inside: dict[str, Given] = {}
        for given in layer:
            known = inside.setdefault(given.option.path, given)
            if known is not given and given.option.secret:
                raise ConfigError(f"{known.origin} and {given.origin} say the same; leave one out")
        chosen = inside | chosen
    values = dict(defaults) | {path: convert(given) for path, given in chosen.items()}
    return _fill(section, "", values, chosen)


def _fill(
    section: type[Any], prefix: str, values: Mapping[str, Any], chosen: Mapping[str, Given]
) -> Any:
    hints = typing.get_type_hints(section)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        path = prefix + field.name
        if dataclasses.is_dataclass(hints[field.name]):
            arguments[field.name] = _fill(hints[field.name], path + ".", values, chosen)
        elif path in values:
            arguments[field.name] = values[path]
    try:
        return section(**arguments)
    except ValueError as error:
        origins = [given.origin for path, given in chosen.items() if path.startswith(prefix)]
        raise ConfigError(f"{error} (set by {', '.join(origins)})") from error


def convert(given: Given) -> Any:
    """Turn what was given into the setting's type.

    Raises:
        ConfigError: It is not what the setting takes.
    """
    annotation, value = given.option.annotation, given.value
    textual = isinstance(value, str)
    kinds = _kinds(annotation)
    if textual and kinds == [bool]:
        value = _WORDS.get(value.strip().lower(), value)
    elif textual and kinds == [tuple[str, ...]]:
        value = _listed(value)

    def path_from(kind: type, text: Any) -> Path:
        if kind is not Path or not isinstance(text, str) or not text:
            raise ValueError("not a path")
        return (given.base / Path(text).expanduser()).absolute()

    try:
        converted = msgspec.convert(
            str(value) if isinstance(value, Path) else value,
            annotation,
            strict=not textual,
            dec_hook=path_from,
        )
        if isinstance(converted, float) and not math.isfinite(converted):
            raise ValueError("not finite")  # noqa: TRY301 - the same answer as for any other misfit
    except (msgspec.ValidationError, ValueError) as error:
        got = "something else" if given.option.secret else repr(given.value)
        expected = describe(annotation)
        raise ConfigError(f"{given.origin}: expected {expected}, got {got}") from error
    return converted


def _listed(text: str) -> list[str]:
    """A list as a text: words between commas or blanks, or URLs, which may hold commas inside."""
    between = r"[\s,]+(?=\w[\w+.-]*://)|\s+" if "://" in text else r"[\s,]+"
    return [word for word in re.split(between, text) if word.strip(",")]


def describe(annotation: Any) -> str:
    """Say in words what a setting takes: `a whole number of at least 1`."""
    kinds = _kinds(annotation)
    bounds = [part for part in _metas(annotation) if isinstance(part, msgspec.Meta)]
    for meta in bounds:
        if meta.description:
            return meta.description
    return " or ".join(_noun(kind) for kind in kinds) + "".join(_limits(meta) for meta in bounds)


def _kinds(annotation: Any) -> list[Any]:
    """The plain types of an annotation, without None and without bounds."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        inner = [kind for part in typing.get_args(annotation) for kind in _kinds(part)]
        return [kind for kind in inner if kind is not type(None)]
    return [annotation]


def _metas(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Annotated:
        return list(typing.get_args(annotation)[1:])
    return [meta for part in typing.get_args(annotation) for meta in _metas(part)]


def _noun(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(str(word) for word in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return " or ".join(str(member.value) for member in kind)
    nouns = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        tuple[str, ...]: "a list of texts",
    }
    return nouns.get(kind, "a path" if kind is Path else str(kind))


def _limits(meta: msgspec.Meta) -> str:
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge:g} to {meta.le:g}"
    for words, value in (
        ("of at least", meta.ge),
        ("above", meta.gt),
        ("of at most", meta.le),
        ("below", meta.lt),
    ):
        if value is not None:
            return f" {words} {value:g}"
    return ""


def _known(options: Mapping[str, Option], path: str, what: str) -> Option:
    if path not in options:
        raise ConfigError(f"there is no {what} {path!r}{_nearest_path(options, path, what)}")
    return options[path]


def _nearest_path(options: Mapping[str, Option], path: str, what: str) -> str:
    """Look among the names of the same section first, then everywhere."""
    section, _, name = path.rpartition(".")
    sections = sorted({option.rpartition(".")[0] for option in options})
    if what == "section":
        return _nearest(path, sections)
    beside = [option.removeprefix(f"{section}.") for option in options if section in sections]
    if close := difflib.get_close_matches(name, beside, n=1, cutoff=0.6):
        return f"; did you mean {f'{section}.{close[0]}'!r}?"
    if close := difflib.get_close_matches(path, options, n=1, cutoff=0.6):
        return f"; did you mean {close[0]!r}?"
    if section in sections:
        inside = [option for option in options if option.startswith(f"{section}.")]
        return f"; known are {', '.join(inside)}"
    return _nearest(section, sections)


def _nearest(word: str, known: Collection[str]) -> str:
    """Name the most similar known word, or all of them when they are few."""
    if close := difflib.get_close_matches(word, known, n=1, cutoff=0.6):
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if len(known) <= 10 else ""
