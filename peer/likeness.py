"""How another peer like this one is started: with the settings that this one was given.

They come from flags, the environment and files. The environment is inherited, files are read again,
and flags are repeated, so nothing of the configuration has to be written down, secrets least of
all. What belongs to one peer alone is said anew: who it is, and where it listens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossip.addresses import format_address, parse_address
from peer.config import Config
from peer.flags import typed
from scaling.local.containers import Launch, Record

OWN = (
    "peer.name", "peer.node", "peer.container", "peer.metrics_listen", "gossip.listen",
    "gossip.advertise",
)  # fmt: skip
"""Settings of one peer alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What this peer was started with.

    Args:
        arguments: On its command line, without those of `OWN`.
        lifeline: The file descriptor that tells when whoever started it is gone.
    """

    arguments: tuple[str, ...] = ()
    lifeline: int | None = None

    @classmethod
    def of(
        cls,
        config_file: Path | None,
        assignments: tuple[str, ...],
        flags: Mapping[str, Any],
        lifeline: int | None,
    ) -> Likeness:
        """Put it together from the parsed command line.

        Args:
            flags: Values by their settings' paths; None: not given.
        """
        words: list[str] = [] if config_file is None else ["--config", str(config_file)]
        for path, value in flags.items():
            if value is not None and path not in OWN:
                values = value if isinstance(value, tuple) else (value,)
                words += [word for each in values for word in typed(path, each)]
        for text in assignments:
            if text.partition("=")[0].strip() not in OWN:
                words += ["--set", text]
        return cls(arguments=tuple(words), lifeline=lifeline)

    def launch(self, record: Record, config: Config) -> Launch:
        """Say how the peer of a new container is started.

        Its grace is that of this peer; its sockets are any free ones of the same networks, and what
        is advertised was of this peer's own port.
        """
        command = [
            sys.executable, "-P", "-m", "peer", *self.arguments,
            "--name", record.name,
            "--listen", _any_port(config.gossip.listen),
            "--advertise", "",
            "--set", f"peer.node={record.node}",
            "--set", f"peer.container={record.id}",
            "--set", f"peer.metrics_listen={_any_port(config.peer.metrics_listen)}",
        ]  # fmt: skip
        if self.lifeline is None:
            return Launch(command=command)
        os.set_inheritable(self.lifeline, True)  # the launcher passes on what it was given
        return Launch(
            command=[*command, "--lifeline", str(self.lifeline)], descriptors=(self.lifeline,)
        )


def _any_port(listen: str) -> str:
    """Any free port of the same network; empty where nothing is said."""
    if not listen:
        return ""
    return format_address((parse_address(listen, any_port=True).host, 0))
