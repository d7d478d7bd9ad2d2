"""Claims on names of machines, as Swarm configs: to create one is to be first.

A config's name is unique in the Swarm, so of two who create it one is told that it exists (409).
Taking a claim over, or giving it up, is an update of its labels over the version that was listed. A
config is removed only after such an update has marked it as released: to remove is not tied to a
version, and by the mark everybody else leaves it alone, or removes exactly that one by its id.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

import msgspec

from scaling.intents import Intent
from scaling.ports import Conflict, OrchestratorUnavailable
from scaling.swarm.api import SwarmObject
from scaling.swarm.client import Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.problems import Refused
from scaling.swarm.service import TERM, term

SERVICE = "grapevine.service"
NODE = "grapevine.node"
RELEASED = "grapevine.released"
DATA = b64encode(b"A node of this name is being created or destroyed by Grapevine.\n").decode()
NAME_LETTERS_MAX = 64
"""Swarm's limit for the name of a config."""
DIGEST_LETTERS = 16
"""At the end of one that would be longer. The node's whole name is in the labels."""


class SwarmIntents:
    """The claims of one service; satisfies the port `scaling.intents.Intents`."""

    def __init__(self, managers: Managers, config: SwarmConfig) -> None:
        self._managers = managers
        self._service = config.service

    async def list(self) -> Sequence[Intent]:
        """All claims, whoever holds them, by name."""
        return sorted(
            (
                Intent(name=found.labels[NODE], term=term(found.spec), version=_version(found))
                for found in await self._all()
                if RELEASED not in found.labels
            ),
            key=lambda intent: intent.name,
        )

    async def claim(self, name: str, *, term: int) -> bool:
        """Claim a name that nobody holds. False when somebody does, be it this leader."""
        for left in (True, False):
            if await self._create(name, term):
                return True
            if not (left and await self._remove_released(name)):
                break
        return False

    async def adopt(self, intent: Intent, *, term: int) -> bool:
        """Take a claim over. False when it is not as it was listed any more."""
        return await self._relabel(intent, {TERM: str(term)})

    async def release(self, intent: Intent) -> bool:
        """Give a claim up. False when it is not as it was listed any more; it then stays."""
        if not await self._relabel(intent, {RELEASED: "true"}):
            return False
        await self._remove(intent.version.partition("@")[0])
        return True

    async def _all(self) -> tuple[SwarmObject, ...]:
        filters = msgspec.json.encode({"label": [f"{SERVICE}={self._service}"]}).decode()
        return await self._managers.need("/configs", tuple[SwarmObject, ...], filters=filters)

    async def _create(self, name: str, term: int) -> bool:
        labels = {SERVICE: self._service, NODE: name, TERM: str(term)}
        body = {"Name": self._config_name(name), "Data": DATA, "Labels": labels}
        try:
            await self._managers.post("/configs/create", body)
        except Refused as refused:
            if refused.exists:
                return False
            raise OrchestratorUnavailable(f"no claim could be made: {refused.said}") from refused
        return True

    def _config_name(self, name: str) -> str:
        """Alike for everybody who claims that name; for people its beginning at least."""
        full = f"{self._service}-intent-{name}"
        if len(full) <= NAME_LETTERS_MAX:
            return full
        digest = sha256(full.encode()).hexdigest()[:DIGEST_LETTERS]
        return f"{full[: NAME_LETTERS_MAX - DIGEST_LETTERS - 1]}-{digest}"

    async def _remove_released(self, name: str) -> bool:
        """Finish what somebody began who then crashed. Whether there was such a thing."""
        for found in await self._all():
            if found.labels.get(NODE) == name and RELEASED in found.labels:
                await self._remove(found.id)
                return True
        return False

    async def _relabel(self, intent: Intent, labels: dict[str, str]) -> bool:
        config_id, _, index = intent.version.partition("@")
        try:
            found = await self._managers.get(f"/configs/{config_id}", SwarmObject)
            if found.version.index != int(index) or RELEASED in found.labels:
                return False
            await self._managers.post(
                f"/configs/{config_id}/update",
                {**found.spec, "Labels": {**found.labels, **labels}},
                version=found.version.index,
            )
        except (Conflict, Refused):
            return False
        return True

    async def _remove(self, config_id: str) -> None:
        try:
            await self._managers.delete(f"/configs/{config_id}")
        except Refused as refused:
            if not refused.missing:
                raise OrchestratorUnavailable(f"a claim stays: {refused.said}") from refused


def _version(found: SwarmObject) -> str:
    return f"{found.id}@{found.version.index}"
