"""Every setting of Grapevine: its meaning, its default and its bounds; the only reader of
configuration files, environment and flags.

    flags  >  environment (GRAPEVINE_<SECTION>_<KEY>)  >  TOML file  >  defaults

The other folders have configurations of their own and know nothing of this one; where such a class
exists its section is that class, so that a name, a default and a bound are written once.

Nothing here imports trio or a database: `peerctl` reads its settings in a few milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from msgspec import Meta

from gossip.addresses import parse_address
from gossip.errors import GossipError
from gossip.keys import parse_material
from peer import options
from peer.machine import default_config_file, default_data_dir, default_name, processors
from peer.options import SECRET
from peer.paths import Places
from pipeline.media.config import TranscodeConfig
from pipeline.notify.config import NotifyConfig
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.retry import RetryPolicy
from pipeline.stores.s3.config import S3Config
from scaling.config import ScalingConfig
from scaling.providers.config import ProviderConfig
from scaling.swarm.config import SwarmConfig

PREFIX = "GRAPEVINE_"
CONFIG_VARIABLE = "GRAPEVINE_CONFIG"
"""Names the TOML file, for those who cannot give `--config`."""

METRICS_PORT = 9464
"""As the exporters of OpenTelemetry have it; Prometheus itself names none."""

SWARM_NAME_LETTERS_MAX = 64
"""Docker's limit for the name of a Swarm config: claims on nodes are such."""

Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="a name of at most 63 letters, digits, dots, dashes and underscores",
    ),
]
Label = Annotated[
    str,
    Meta(
        pattern=r"^[!-~]{1,64}$",
        description="a text of at most 64 characters, without blanks",
    ),
]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """The process itself."""

    name: Name
    # What people call this peer, and its directory's name below <data_dir>/peers. Unique among the
    # peers that share a data directory. Default: the machine's name.
    data_dir: Path
    # Where everything lies that outlives the process. Default: /var/lib/grapevine for root, else
    # $XDG_DATA_HOME/grapevine or ~/.local/share/grapevine.
    slots: Annotated[int, Meta(ge=0, le=1024)]
    # How many parts are worked on at the same time. Each runs an ffmpeg of its own. 0: none; the
    # peer gossips, looks after the ledger, and may lead. Default: the processors this process may
    # use.
    node: Label
    # The machine that this peer says it is on, in the table, in claims and in events. In a Swarm
    # {{.Node.Hostname}}, so that it is the node's name and not the container's. Default: the
    # machine's name.
    container: Label | None = None
    # What this peer calls its container there. In a Swarm {{.Task.ID}}, by which the orchestrator
    # knows it: the scaler finds a container's peer by it. None: `pid:` and the process's number.
    stop_grace_s: Annotated[float, Meta(ge=0)] = 30.0
    # After SIGTERM, how long running work may go on before it is handed back. The orchestrator's
    # own grace must be longer by 15 s or so: it kills what is there when that is over.
    park_s: Annotated[float, Meta(gt=0)] = 600.0
    # For how long the scaler's park holds after it was last said. The scaler says it once a
    # minute; when it is gone for good, its parks end.
    handover_s: Annotated[float, Meta(ge=1, le=1500)] = 900.0
    # For how long the queue's message stays unacknowledged while its part is worked on. Until then
    # a killed peer's task comes back as soon as the queue misses it; from then on the ledger's
    # lease and the cluster see to it. RabbitMQ gives up a consumer that holds one for 30 minutes.
    store_patience_s: Annotated[float, Meta(ge=0, le=3600)] = 120.0
    # For how long a pull or a push waits for a store that is away before it counts as failed: an
    # encode of an hour is not thrown away for a minute's outage.
    log_level: LogLevel = "info"
    # The least important line that is written.
    log_format: LogFormat = "console"
    # `console` for people, `json` for machines; both to standard error.
    metrics_listen: str = ""
    # Where /metrics (for Prometheus), /healthz and /readyz are served, as host:port, for example
    # 127.0.0.1:9464; 0.0.0.0 or [::] is every network, port 0 any free port (`peerctl status` tells
    # which). Without a password: keep it on a network of your own. Empty: nowhere.

    def __post_init__(self) -> None:
        if self.metrics_listen:
            try:
                parse_address(self.metrics_listen, default_port=METRICS_PORT, any_port=True)
            except GossipError as error:
                raise ValueError(f"peer.metrics_listen: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """PostgreSQL, which holds tasks, claims, outputs, events, and the embedded queue."""

    url: str | None = field(default=None, metadata=SECRET, repr=False)
    # postgresql://… of a server ≥ 14. None: an embedded server in <data_dir>/postgres.
    postgres: Path | None = None
    # The directory with the embedded server's programs. None: those of the installed wheel.
    lease_s: Annotated[float, Meta(ge=3)] = 15.0
    # How long a claim outlives its holder's last sign of life; a killed peer's task waits that
    # long. The holder renews five times in it. A call to the database is cut before it is over, so
    # one lost renewal, or one connection that is half dead, does no harm.
    connections: Annotated[int, Meta(ge=1, le=100)] = 4
    # The pool's size: how many statements this peer has in flight at most.

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("postgresql://", "postgres://")):
            raise ValueError("ledger.url: expected a postgresql:// URL")

    @property
    def statement_timeout_s(self) -> float:
        """When the server ends a statement: whoever holds a lock then lets go in time."""
        return min(10.0, self.lease_s / 3)

    @property
    def transaction_timeout_s(self) -> float:
        """When the client ends a call: what holds a renewal up must end before the lease does."""
        return min(30.0, self.lease_s * 2 / 3)

    @property
    def connect_timeout_s(self) -> int:
        """For one attempt to connect, in whole seconds, as libpq takes it."""
        return max(2, min(5, int(self.lease_s / 3)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Where sources and outputs lie: a directory, or buckets that speak S3."""

    directory: Path | None = None
    # The directory store's root; peers on several machines can share one. None: <data_dir>/store.
    s3: S3Config = field(default_factory=S3Config)
    # With an endpoint: MinIO, AWS, Ceph, … instead of a directory.

    def __post_init__(self) -> None:
        if self.directory is not None and self.s3.endpoint is not None:
            raise ValueError(
                "store.directory and store.s3.endpoint exclude each other; leave one out"
            )
        if self.s3.endpoint is None and self.s3 != S3Config():
            raise ValueError(
                "[store.s3] has no endpoint, so the store would be a directory; add the endpoint, "
                "for example https://s3.eu-central-1.amazonaws.com"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig(RetryPolicy):
    """After which failures a task is tried again: the policy's delays, and the threshold."""

    attempts_max: Annotated[int, Meta(ge=1, le=100)] = 4
    # How often one stage of a task may fail before a person must look, unless its submission says
    # otherwise.


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipSettings:
    """How this peer and the others find, hear and trust each other: one UDP socket.

    The peers of one data directory find each other without any of it.
    """

    join: tuple[str, ...] = ()
    # Peers of other machines, as host or host:port ([v6]:port); any of them that lives is enough.
    # A name may stand for many addresses, and is looked up again at every try. In a list, or a
    # text with commas.
    listen: str = ""
    # Where datagrams are received, as host:port; 0.0.0.0 or [::] is every network. Empty: without
    # anything to join, or when all of it is on this machine, 127.0.0.1 and any free port;
    # otherwise [::]:7946, which is IPv4 and IPv6 (0.0.0.0:7946 where the system has no IPv6), or
    # any free port where another peer has that one.
    advertise: str = ""
    # Where the others send to, as host or host:port, if that is not where they see this peer's
    # datagrams come from. Empty: found out.
    cluster: Annotated[
        str,
        Meta(min_length=1, max_length=64, description="a text of 1 to 64 characters"),
    ] = "grapevine"
    # The cluster's name: peers with another one are not heard, even with the same key.
    key: str | None = field(default=None, metadata=SECRET, repr=False)
    # The cluster's secret: 32 bytes as base64 or hexadecimal digits. `peerctl keys generate` makes
    # one. The same for every peer, and better from a file: gossip.key_file, or the variable
    # GRAPEVINE_GOSSIP_KEY_FILE. None: one that is made in the data directory, which serves the
    # peers of this machine. Once keys were changed while peers ran (`peerctl keys`), what each has
    # saved counts, and this only for a peer that has saved nothing yet.
    plaintext: bool = False
    # Neither encrypt nor authenticate. Only for a listen address of this machine (127.0.0.1, ::1).
    profile: Literal["lan", "quiet"] = "lan"
    # `quiet`: a third of the traffic (some 2 kB/s), and a death is noticed half as fast. The same
    # for every peer.

    def __post_init__(self) -> None:
        if self.key is not None and self.plaintext:
            raise ValueError("gossip.key and gossip.plaintext exclude each other; leave one out")
        texts = [*self.join, *filter(None, [self.advertise])]
        try:
            for text in texts:
                parse_address(text)
            if self.listen:
                parse_address(self.listen, any_port=True)
            if self.key is not None:
                parse_material(self.key)
        except GossipError as error:
            raise ValueError(f"gossip: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSettings:
    """What this peer may become among the others."""

    eligible: bool = True
    # Whether it may be proposed as the leader.
    priority: Annotated[int, Meta(ge=0, le=255)] = 0
    # Among those that may lead, lower ones come first; then the one that was started first.


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSettings(ScalingConfig):
    """How many containers and nodes there are, and who starts and stops them: the policy's own
    settings (scaling/README.md says what each does), and these.
    """

    dry_run: bool = False
    # While this peer leads: decide, put down what would be done (`peerctl scale explain`), and do
    # nothing. To try settings on a cluster that works; `peerctl scale pause` does it for all peers.
    swarm: SwarmConfig = field(default_factory=SwarmConfig)
    # With orchestrator = "swarm".
    provider: ProviderConfig = field(default_factory=ProviderConfig)
    # Where nodes come from, beyond those that are there.

    def __post_init__(self) -> None:
        # Not super(): a class with slots is made anew, and super() would look for the first one.
        ScalingConfig.__post_init__(self)
        if self.dry_run and self.orchestrator == "none":
            raise ValueError(
                "scaling.dry_run would do nothing, for scaling.orchestrator is 'none': nothing "
                'scales; write orchestrator = "local" or "swarm", or remove it'
            )
        if self.orchestrator != "swarm":
            for name, section in (("swarm", self.swarm), ("provider", self.provider)):
                if section != type(section)():
                    raise ValueError(
                        f"[scaling.{name}] has settings, and scaling.orchestrator is "
                        f"{self.orchestrator!r}: they would do nothing; write orchestrator = "
                        '"swarm", or remove them'
                    )
        longest = f"{self.swarm.service}-intent-{self.pool}-9999"
        if self.provider.makes_nodes and len(longest) > SWARM_NAME_LETTERS_MAX:
            raise ValueError(
                f"scaling.swarm.service and scaling.pool are too long together: {longest!r} has to "
                f"fit into {SWARM_NAME_LETTERS_MAX} letters; give one of them a shorter name"
            )

    @property
    def policy(self) -> ScalingConfig:
        """What decisions are made of, and recorded with: nothing secret is in it."""
        names = [setting.name for setting in fields(ScalingConfig)]
        return ScalingConfig(**{name: getattr(self, name) for name in names})

    @property
    def swarm_config(self) -> SwarmConfig:
        """The Swarm, with what is the same for all orchestrators."""
        return replace(self.swarm, pool=self.pool, containers_per_node=self.containers_per_node)

    @property
    def provider_config(self) -> ProviderConfig:
        """The provider, with the pool's name."""
        return replace(self.provider, pool=self.pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything, by section."""

    peer: PeerConfig
    ledger: LedgerConfig
    queue: RabbitConfig
    # Without a url: the embedded queue, in the ledger's database.
    store: StoreConfig
    transcode: TranscodeConfig
    retry: RetryConfig
    notify: NotifyConfig
    gossip: GossipSettings
    membership: MembershipSettings
    scaling: ScalingSettings

    @property
    def places(self) -> Places:
        """Where this configuration's files lie."""
        return Places(self.peer.data_dir)

    @property
    def store_directory(self) -> Path:
        """The directory store's root."""
        return self.store.directory or self.places.store


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    assignments: Iterable[str] = (),
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Read the settings from everywhere they can come from.

    Args:
        flags: Values by path (`{"peer.slots": 2}`); None stands for a flag that was not given.
        assignments: `section.key=value` texts of `--set`; weaker than a flag of its own.
        file: The configuration file; it must exist. None: $GRAPEVINE_CONFIG, which must exist too,
            else the default place, where it may be missing.
        environment: None means this process's.

    Raises:
        ConfigError: Something is unknown, wrong or contradictory; the message says where.
    """
    environment = os.environ if environment is None else environment
    known = {option.path: option for option in options.options_of(Config)}
    defaults = {
        "peer.name": default_name(),
        "peer.node": default_name(),
        "peer.data_dir": default_data_dir(environment),
        "peer.slots": processors(),
    }
    chosen = _config_file(file, environment)
    layers = [
        options.from_flags(known, flags or {}),
        options.from_assignments(known, assignments),
        options.from_environment(known, environment, PREFIX, reserved=[CONFIG_VARIABLE]),
        options.from_file(known, chosen) if chosen else (),
    ]
    return cast("Config", options.build(Config, defaults, layers))


def _config_file(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    if file is not None:
        return file
    if named := environment.get(CONFIG_VARIABLE):
        return Path(named).expanduser()
    usual = default_config_file(environment)
    return usual if usual.is_file() else None
