"""How each of libcloud's drivers is told the two things that its common interface cannot say.

A new machine must get its user data, which makes it join, and the mark of its cluster, by which it
is listed and destroyed as ours; and it must get both with the order itself. A machine that is
marked by a second call is nobody's when the first call's sender dies. libcloud's `create_node` has
arguments for neither that are common to all drivers (some call the one `ex_userdata`, others
`ex_user_data`, …), so the table below has an entry for each driver that can, and the others are
refused. Guessing an argument's name by looking at the signature was rejected: a driver takes
`ex_create_attr` and leaves out what it does not know.

Everything was read in the source of libcloud 3.9.1, and the contract tests check that the drivers
still take what is given to them. Left out on purpose: Vultr (its only mark is a field that its API
has given up), Azure (an order is several calls), Scaleway, UpCloud, OVH (no user data), CloudStack,
Brightbox, Outscale (no mark with the order).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from scaling.providers.config import LibcloudConfig
from scaling.providers.errors import ProviderRefused

MARK = "grapevine-cluster"
"""The tag's, label's or metadata's name; its value is the cluster's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted."""

    name: str
    cluster: str
    user_data: str
    config: LibcloudConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One driver's ways.

    Args:
        opening: The driver's positional and keyword arguments.
        order: `create_node`'s arguments beside `name`; may ask the driver for what it needs.
        mark_of: The cluster that one of libcloud's nodes belongs to; None when it bears no mark.
        listing: `list_nodes`' arguments, where the cloud itself can leave out what is not ours.
    """

    opening: Callable[[LibcloudConfig], tuple[list[Any], dict[str, Any]]]
    order: Callable[[Any, Order], dict[str, Any]]
    mark_of: Callable[[Any], str | None]
    listing: Callable[[str], dict[str, Any]] = lambda _cluster: {}


def dialect_of(provider: str) -> Dialect:
    """Find a driver's entry; raises `ProviderRefused` when it has none."""
    if provider in DIALECTS:
        return DIALECTS[provider]
    known = ", ".join(sorted(DIALECTS))
    raise ProviderRefused(
        f"libcloud's driver {provider!r} is unknown, or has no way to give a new machine its user "
        f"data and its cluster's mark in one order; those that have are {known}. For any other "
        "cloud write scaling.provider.kind = 'exec', with commands that call its own program"
    )


def _thing(id: str) -> Any:
    """What drivers take for a size, an image or a place: they read only its id or its name."""
    return SimpleNamespace(id=id, name=id)


def _tag(cluster: str) -> str:
    return f"{MARK}:{cluster}"


def _mark_in_list(tags: Any) -> str | None:
    """Of tags that are words, the one that is ours."""
    prefix = _tag("")
    marks = [tag.removeprefix(prefix) for tag in tags or () if str(tag).startswith(prefix)]
    return marks[0] if marks else None


def _no_network(config: LibcloudConfig) -> None:
    for name, value in (("network", config.network), ("security_groups", config.security_groups)):
        if value:
            raise ProviderRefused(
                f"scaling.provider.libcloud.{name}: libcloud's driver {config.provider} has none "
                "to choose; leave it out"
            )


# EC2


def _open_ec2(config: LibcloudConfig) -> tuple[list[Any], dict[str, Any]]:
    region = {"region": config.region} if config.region else {}
    return [config.key, config.secret], {"timeout": config.request_timeout_s, **region}


def _order_ec2(_driver: Any, order: Order) -> dict[str, Any]:
    config = order.config
    ids = [group for group in config.security_groups if group.startswith("sg-")]
    names = [group for group in config.security_groups if not group.startswith("sg-")]
    return {
        "size": _thing(config.size),
        "image": _thing(config.image),
        "ex_userdata": order.user_data,
        "ex_metadata": {MARK: order.cluster},
        "ex_subnet": _thing(config.network) if config.network else None,
        "ex_security_group_ids": ids or None,
        "ex_security_groups": names or None,
    }


# OpenStack


def _open_openstack(config: LibcloudConfig) -> tuple[list[Any], dict[str, Any]]:
    region = {"ex_force_service_region": config.region} if config.region else {}
    return [config.key, config.secret], {"timeout": config.request_timeout_s, **region}


def _order_openstack(driver: Any, order: Order) -> dict[str, Any]:
    config = order.config
    networks = []
    if config.network:
        networks = [_found(driver.ex_list_networks(), config.network, "network")]
    return {
        "size": _found(driver.list_sizes(), config.size, "size"),
        "image": _thing(config.image),
        "ex_userdata": order.user_data,
        "ex_metadata": {MARK: order.cluster},
        "networks": networks,
        "ex_security_groups": [_thing(group) for group in config.security_groups],
    }


def _found(things: list[Any], wanted: str, what: str) -> Any:
    """By id, else by name: flavors and networks have ids that nobody can remember."""
    for thing in (
        *(thing for thing in things if str(thing.id) == wanted),
        *(thing for thing in things if thing.name == wanted),
    ):
        return thing
    known = ", ".join(sorted(str(thing.name) for thing in things)[:20])
    raise ProviderRefused(
        f"scaling.provider.libcloud.{what}: the cloud has none called {wanted!r}; it has {known}"
    )


# DigitalOcean


def _open_digital_ocean(config: LibcloudConfig) -> tuple[list[Any], dict[str, Any]]:
    # Its constructor stumbles over every further argument, so the time-out is set later.
    return [config.key], {}


def _order_digital_ocean(_driver: Any, order: Order) -> dict[str, Any]:
    config = order.config
    _no_network(config)
    given = config.node_arguments.get("ex_create_attr", {})
    more: Mapping[str, Any] = given if isinstance(given, dict) else {}
    return {
        "size": _thing(config.size),
        "image": _thing(config.image),
        "location": _thing(config.region),
        "ex_user_data": order.user_data,
        "ex_create_attr": {**more, "tags": [*more.get("tags", ()), _tag(order.cluster)]},
    }


# Linode


def _open_linode(config: LibcloudConfig) -> tuple[list[Any], dict[str, Any]]:
    return [config.key], {"timeout": config.request_timeout_s}


def _order_linode(driver: Any, order: Order) -> dict[str, Any]:
    # The driver checks the classes of both; and it encodes the user data itself, whatever its
    # documentation says.
    from libcloud.compute.base import NodeLocation, NodeSize  # noqa: PLC0415 - an optional package

    config = order.config
    _no_network(config)
    return {
        "size": NodeSize(config.size, config.size, 0, 0, 0, 0, driver),
        "image": _thing(config.image),
        "location": NodeLocation(config.region, config.region, "", driver),
        # Linode wants one; nobody shall ever type it.
        "root_pass": secrets.token_urlsafe(32),
        "ex_userdata": order.user_data,
        "ex_tags": [_tag(order.cluster)],
    }


# Google Compute Engine


def _open_gce(config: LibcloudConfig) -> tuple[list[Any], dict[str, Any]]:
    region = {"datacenter": config.region} if config.region else {}
    return [config.key, config.secret], {"timeout": config.request_timeout_s, **region}


def _order_gce(_driver: Any, order: Order) -> dict[str, Any]:
    config = order.config
    if config.security_groups:
        raise ProviderRefused(
            "scaling.provider.libcloud.security_groups: GCE has firewall rules for tags instead; "
            "write node_arguments.ex_tags"
        )
    return {
        "size": config.size,
        "image": config.image,
        "ex_network": config.network or "default",
        "ex_metadata": {"user-data": order.user_data},
        "ex_labels": {MARK: order.cluster},
    }


DIALECTS: dict[str, Dialect] = {
    "ec2": Dialect(
        opening=_open_ec2,
        order=_order_ec2,
        mark_of=lambda node: (node.extra.get("tags") or {}).get(MARK),
        listing=lambda cluster: {"ex_filters": {f"tag:{MARK}": cluster}},
    ),
    "openstack": Dialect(
        opening=_open_openstack,
        order=_order_openstack,
        mark_of=lambda node: (node.extra.get("metadata") or {}).get(MARK),
    ),
    "digitalocean": Dialect(
        opening=_open_digital_ocean,
        order=_order_digital_ocean,
        mark_of=lambda node: _mark_in_list(node.extra.get("tags")),
    ),
    "linode": Dialect(
        opening=_open_linode,
        order=_order_linode,
        mark_of=lambda node: _mark_in_list(node.extra.get("tags")),
    ),
    "gce": Dialect(
        opening=_open_gce,
        order=_order_gce,
        mark_of=lambda node: (node.extra.get("labels") or {}).get(MARK),
    ),
}
