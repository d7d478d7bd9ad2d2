"""What can be set about where nodes come from, in one place, with what each value does.

Nothing here imports trio or libcloud: `peerctl` reads its settings in a few milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

SECRET = {"secret": True}
"""Field metadata: the value may also come from a file that is named, and is never printed."""
DERIVED = {"derived": True}
"""Field metadata: no setting of its own; the peer fills it in from [scaling]."""

LISTING_LAG_S = 30.0
"""How long a machine may be missing from its provider's list after it was ordered: clouds' lists
are eventually consistent, mostly within seconds."""
CLAIM_CALL_S = 30.0
"""How old a look at the claims can be when what follows from it is done."""

Argument = str | int | float | bool | list[Any] | dict[str, Any]
Table = Annotated[dict[str, Argument], Meta(description="a table of names and values")]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9-]{0,31}$",
        description="a name of at most 32 lower-case letters, digits and dashes",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecConfig:
    """The user's own commands. Each is a list: a program and its arguments; no shell is involved.

    In every argument, {name} and {cluster} are filled in. README.md of this folder has what they
    are given and must answer.
    """

    create: tuple[str, ...] = ()
    # Orders one machine called {name}, which joins by itself. May return before it has.
    list: tuple[str, ...] = ()
    # Prints all machines of this cluster, one a line.
    destroy: tuple[str, ...] = ()
    # Gives the machine called {name} back.
    pass_environment: tuple[str, ...] = ("HOME",)
    # Variables of the peer's environment that the commands see, besides PATH, LANG and what
    # README.md lists.
    create_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 300.0
    list_timeout_s: Annotated[float, Meta(gt=0, le=300)] = 30.0
    destroy_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 300.0
    # A command that takes longer is killed, with all that it has started.

    def objections(self) -> tuple[str, ...]:
        """Why this cannot be used, in sentences."""
        said = []
        for what in ("create", "list", "destroy"):
            command: tuple[str, ...] = getattr(self, what)
            if not command:
                said.append(f'{what} is missing: a list, like ["/usr/local/bin/nodes", "{what}"]')
            elif "/" in command[0] and not command[0].startswith("/"):
                said.append(f"{what}: write {command[0]!r} as an absolute path")
            elif re.search(r"\{join_token\}", " ".join(command)):
                said.append(
                    f"{what}: every user of the machine can read a command's arguments; take the "
                    "token from the variable GRAPEVINE_JOIN_TOKEN"
                )
            elif what != "list" and not any("{name}" in part for part in command[1:]):
                said.append(f"{what} has no {{name}} among its arguments, so it cannot know which")
        return tuple(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibcloudConfig:
    """A cloud, by Apache Libcloud: `pip install 'grapevine[cloud]'`."""

    provider: str = ""
    # ec2, openstack, digitalocean, linode or gce.
    key: str | None = field(default=None, metadata=SECRET, repr=False)
    secret: str | None = field(default=None, metadata=SECRET, repr=False)
    # Who we are there: for EC2 the access key and its secret, for OpenStack user and password, for
    # GCE the service account and the path of its key file, for the others a token as key.
    region: str = ""
    # As the cloud calls it: eu-central-1, fra1, …
    size: str = ""
    # The kind of machine: t3.xlarge, s-4vcpu-8gb, a flavor's name or id, …
    image: str = ""
    # Its id (for GCE its name). Docker Engine must be in it, better with Grapevine's image, too.
    network: str = ""
    # EC2: a subnet's id; OpenStack: a network's name or id; GCE: a network's name. Empty: the
    # cloud's default. The others have none to choose.
    security_groups: tuple[str, ...] = ()
    # EC2: ids (sg-…) or names; OpenStack: names.
    driver_arguments: Table = field(default_factory=dict)
    # For libcloud's driver, as its documentation says, like ex_force_auth_url for OpenStack.
    node_arguments: Table = field(default_factory=dict)
    # For its create_node, like ex_keyname = "ops".
    user_data_file: Path | None = None
    # Cloud-init user data of your own, in which ${GRAPEVINE_NODE_NAME}, ${GRAPEVINE_JOIN_TOKEN} and
    # ${GRAPEVINE_JOIN_ADDRESSES} are filled in. None: what sets the host name and joins the Swarm.
    request_timeout_s: Annotated[float, Meta(gt=0, le=120)] = 30.0
    # How long the cloud may be silent within one request.
    call_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 180.0
    # How long one order, list or return may take in all: several requests.

    def objections(self) -> tuple[str, ...]:
        """Why this cannot be used, in sentences."""
        if not self.provider:
            return ('provider is missing: one of libcloud\'s drivers, like "ec2"',)
        said = [
            f"{name} is missing: {what}"
            for name, what in (
                ("size", "the kind of machine, like t3.xlarge"),
                ("image", "the id of the image that the machines start from"),
            )
            if not getattr(self, name)
        ]
        if self.call_timeout_s < self.request_timeout_s:
            said.append("call_timeout_s is less than request_timeout_s")
        return tuple(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """Where nodes come from."""

    kind: Literal["standby", "exec", "libcloud"] = "standby"
    # `standby`: only nodes that have joined already are taken in and out of service; `exec`: the
    # user's own commands make machines; `libcloud`: a cloud does.
    cluster: Name = "grapevine"
    # The mark on every machine of ours: two clusters that share an account need two.
    pool: Name = field(default="grapevine", metadata=DERIVED)
    # Machines are called <pool>-1, <pool>-2, …; others are left alone.
    join_token: str | None = field(default=None, metadata=SECRET, repr=False)
    # The Swarm's worker token, which new machines join with. None: the leader asks the Swarm.
    join_addresses: tuple[str, ...] = ()
    # Managers as new machines reach them, host:port. Empty: those that the Swarm knows.
    exec: ExecConfig = field(default_factory=ExecConfig)
    libcloud: LibcloudConfig = field(default_factory=LibcloudConfig)

    def __post_init__(self) -> None:
        sections: dict[str, ExecConfig | LibcloudConfig] = {
            "exec": self.exec,
            "libcloud": self.libcloud,
        }
        for name, section in sections.items():
            if name != self.kind and section != type(section)():
                raise ValueError(
                    f"[scaling.provider.{name}] has settings, and scaling.provider.kind is "
                    f'{self.kind!r}: they would do nothing; write kind = "{name}", or remove them'
                )
        used = sections.get(self.kind)
        for objection in used.objections() if used is not None else ():
            raise ValueError(f"scaling.provider.{self.kind}: {objection}")
        if self.join_token is not None and not re.fullmatch(r"SWMTKN-[\w-]+", self.join_token):
            raise ValueError(
                "scaling.provider.join_token is not a Swarm's token (SWMTKN-…): `docker swarm "
                "join-token -q worker` prints it"
            )
        for address in self.join_addresses:
            if not re.fullmatch(r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", address):
                raise ValueError(
                    f"scaling.provider.join_addresses: {address!r} must be host:port, mostly port "
                    "2377"
                )

    @property
    def makes_nodes(self) -> bool:
        """Whether there can be more nodes than have joined already."""
        return self.kind != "standby"

    @property
    def settle_s(self) -> float:
        """How long what a leader has begun may take to happen and to be seen: see `UpkeepRules`."""
        longest_s = {
            "standby": 0.0,
            # Create and destroy list first.
            "exec": self.exec.list_timeout_s
            + max(self.exec.create_timeout_s, self.exec.destroy_timeout_s),
            "libcloud": self.libcloud.call_timeout_s + self.libcloud.request_timeout_s,
        }
        return longest_s[self.kind] + CLAIM_CALL_S + LISTING_LAG_S
