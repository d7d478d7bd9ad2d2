"""Where the Swarm's managers are, and which service and nodes of it are ours.

Nothing here imports the docker SDK: `peerctl` reads its settings in a few milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
"""Of a service or a pool: short enough that names of configs made of it fit Swarm's 64 letters."""
URL = re.compile(
    r"unix:///\S+|(tcp|https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})/?"
)
PORT_MAX = 65_535
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

DERIVED = {"derived": True}
"""Field metadata: no setting of its own; the peer fills it in from [scaling]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmConfig:
    """The managers, the service that runs the peers, and the nodes it may use."""

    managers: tuple[str, ...] = ("unix:///var/run/docker.sock",)
    # Docker's API on managers: unix:///path, tcp://host:2376, https://host:port, or http://host:port
    # of a proxy. Tried in turn; the one that answered is asked until it fails.
    service: str = "grapevine_peer"
    # The name of the replicated service that runs the peers; `docker stack deploy` puts the stack's
    # name before it.
    pool: str = field(default="grapevine", metadata=DERIVED)
    # Which nodes are ours: those whose label has this value are in service. A worker that is called
    # POOL-NUMBER and has no such label yet is on standby, for our provider has made it.
    label: str = "grapevine.pool"
    # The nodes' label. The service needs the constraint `node.labels.LABEL==POOL`.
    containers_per_node: int = field(default=4, metadata=DERIVED)
    # How many containers a node holds, if the service does not say so (max_replicas_per_node).
    ca_file: Path | None = None
    # Certificates of those that may sign for the managers. None: those that are publicly known.
    certificate_file: Path | None = None
    key_file: Path | None = None
    # Who we are to the managers. Docker asks for it wherever it asks for TLS.
    timeout_s: Annotated[float, Meta(gt=0, le=120)] = 10.0
    # How long a manager may be silent. One without a quorum says so after 10 to 20 seconds; nothing
    # is lost by not waiting for that.
    lease_s: Annotated[float, Meta(ge=1, le=600)] = 20.0
    # For how long the right to act lasts when it is not renewed: several times scaling.interval_s.

    def __post_init__(self) -> None:
        for objection in (*self._of_the_managers(), *self._of_the_names(), *self._of_the_files()):
            raise ValueError(f"scaling.swarm.{objection}")

    @property
    def constraint(self) -> str:
        """What the service's placement must ask for, so that nodes can be emptied."""
        return f"node.labels.{self.label}=={self.pool}"

    def _of_the_managers(self) -> list[str]:
        if not self.managers:
            return ["managers: name one at least, such as unix:///var/run/docker.sock"]
        return [objection for url in self.managers if (objection := _objection_to_url(url))]

    def _of_the_names(self) -> list[str]:
        wrong = [
            f"{name}: {value!r} must be 1 to 40 letters, digits, '.', '-' and '_'"
            for name, value in (("service", self.service), ("pool", self.pool))
            if not NAME.fullmatch(value)
        ]
        if not LABEL.fullmatch(self.label):
            wrong.append(f"label: {self.label!r} is no name of a label, such as grapevine.pool")
        return wrong

    def _of_the_files(self) -> list[str]:
        if (self.certificate_file is None) != (self.key_file is None):
            return ["certificate_file and key_file go together; set both or none"]
        return []


def _objection_to_url(url: str) -> str:
    match = URL.fullmatch(url)
    if match is not None and int(match["port"] or 1) <= PORT_MAX:
        return ""
    return (
        f"managers: {url!r} must be unix:///path/of/docker.sock, tcp://host:2376, "
        "https://host:port or http://host:port"
    )
