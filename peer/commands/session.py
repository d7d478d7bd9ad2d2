"""What every command shares: which peer it talks to, how it prints, and how it ends.

Exit codes are part of the interface: 0 done, 1 failed, 2 the command line or a setting is wrong,
3 no peer answers, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import msgspec

from peer import config
from peer.client import Peer, find_peer
from peer.errors import BadAnswer, CommandFailed, ConfigError, NoPeer, PeerError
from peer.flags import CONFIG, DATA_DIR
from peer.protocol import STOPPED, ShownTask
from peer.terminal import print_whatever_comes

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_PEER = 3
EXIT_INTERRUPTED = 130

TAKEOVER_WAIT_S = 10.0
"""How long a watched task may be without any peer that can tell of it."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Where a command finds its peer, as the person said it."""

    config_file: Path | None = None
    data_dir: str | None = None
    socket_path: Path | None = None
    name: str | None = None

    def settings(self) -> config.Config:
        """Read the configuration. Raises ConfigError."""
        return config.load({"peer.data_dir": self.data_dir}, file=self.config_file)

    def peer(self) -> Peer:
        """The peer to talk to. Raises NoPeer."""
        return find_peer(self.settings().places, socket_path=self.socket_path, name=self.name)

    def ask(self, shape: type[T], command: str, **arguments: Any) -> T:
        """Ask the peer, and check that the answer has the expected shape."""
        return shaped(shape, self.peer().ask(command, **arguments))

    def submit(self, **arguments: Any) -> Iterator[Any]:
        """Hand in a video; yield what `Peer.follow` does.

        When the peer goes away in the middle, another one of this machine is asked again. The task
        must bring its id, so that it is the same task however often it is handed in.
        """
        assert "task_id" in arguments
        peer: Peer | None = self.peer()  # that there is none at all is said at once
        alone_since: float | None = None
        while True:
            try:
                yield from (peer or self.peer()).follow("submit", **arguments)
            except (NoPeer, BadAnswer):
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > TAKEOVER_WAIT_S:
                    raise
            else:
                return
            peer = None
            time.sleep(0.2)

    def watch(self, id: str) -> Iterator[ShownTask]:
        """Yield the task at every change until nothing more happens to it by itself.

        When the peer that tells of it goes away, another one of this machine is asked: the task
        outlives it, and so does the watching.
        """
        alone_since: float | None = None
        while True:
            try:
                for item in self.peer().follow("watch", id=id):
                    alone_since = None
                    report = shaped(ShownTask, item)
                    yield report
                if report.state in STOPPED:
                    return
            except (NoPeer, BadAnswer):
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > TAKEOVER_WAIT_S:
                    raise
            time.sleep(0.2)


def shaped(shape: type[T], answer: Any) -> T:
    """Convert an answer to its type; fields this version does not know are left out.

    Raises:
        BadAnswer: It is not of that shape, so the peer is of an incompatible version.
    """
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        raise BadAnswer(
            f"the peer's answer is not what this peerctl understands ({error}); "
            "restart the peer with the version that is installed"
        ) from error


def talks_to_peer(command: F) -> F:
    """Give a click command the options that choose a peer, and pass it a `Session` first."""

    @wraps(command)
    def with_session(
        *args: Any,
        config_file: Path | None,
        data_dir: str | None,
        socket_path: Path | None,
        peer_name: str | None,
        **kwargs: Any,
    ) -> Any:
        session = Session(
            config_file=config_file, data_dir=data_dir, socket_path=socket_path, name=peer_name
        )
        return command(session, *args, **kwargs)

    decorated: Any = with_session
    for option in (
        CONFIG,
        DATA_DIR,
        click.option(
            "--socket",
            "socket_path",
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="The peer's control socket.",
        ),
        click.option("--peer", "peer_name", metavar="NAME", help="The peer to ask."),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # wraps() gives it the command's own signature


def example(line: str) -> str:
    """The end of a command's help, with the line kept whole."""
    return f"\b\nExample:\n  {line}"


def console() -> Console:
    """The console for people, on standard output."""
    from peer.screen.console import make_console

    return make_console()


def print_json(document: Any) -> None:
    """Print one JSON document, indented for those who read it."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


class InOrder(click.Group):
    """A group that lists its commands in the order in which they were added: that of their use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Not by the alphabet."""
        return list(self.commands)


class Boundary(InOrder):
    """The group of all commands: the one place where errors become sentences and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program."""
        print_whatever_comes()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PeerError as error:
            end(error)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has seen enough. Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_FAILED)


class TakesVideo(click.Command):
    """A command with a file as its argument, whose name may begin with a hyphen."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; what is a file and no option is said to be one."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            for word in given:
                if word.startswith("-") and os.path.exists(word):  # noqa: PTH110 - may be no path
                    raise click.UsageError(
                        f"{word} looks like an option; if you mean the file: ./{word}", ctx
                    ) from error
            raise


def end(error: PeerError) -> NoReturn:
    """Print the sentence and leave with the code that belongs to it."""
    click.echo(f"{click.style('Error:', fg='red')} {error}", err=True)
    sys.exit(exit_code(error))


def exit_code(error: PeerError) -> int:
    """The exit code of an error."""
    match error:
        case NoPeer():
            return EXIT_NO_PEER
        case ConfigError() | CommandFailed(kind="usage"):
            return EXIT_USAGE
    return EXIT_FAILED
