"""Nodes by the user's own commands: whatever can be scripted can be a provider.

Three programs (`create`, `list`, `destroy`) are all that is asked for, in any language, with
nothing to link against; README.md has the protocol. A plug-in in Python was rejected: it would run
in the peer, with the peer's event loop to block and the peer's secrets to read.

Each call lists first, so that a repeat does nothing: the user's commands need not be idempotent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from scaling.ports import Machine, ProviderFailed
from scaling.providers.command import Ended, failure, run_command
from scaling.providers.config import ProviderConfig
from scaling.providers.errors import ProviderRefused
from scaling.providers.join import Join, JoinSource
from scaling.providers.lines import parse_machines_untrusted

REFUSED = 64
"""The exit code (`EX_USAGE` of sysexits.h) with which `create` says that no try will ever help."""


class ExecProvider:
    """Implements `NodeProvider` with three commands.

    Args:
        config: Of kind `exec`.
        environment: The peer's; what the commands see of it is a setting.
    """

    def __init__(
        self, config: ProviderConfig, join: JoinSource, environment: Mapping[str, str]
    ) -> None:
        self._config, self._commands, self._join = config, config.exec, join
        self._environment = {
            "PATH": environment.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            **{
                name: environment[name]
                for name in config.exec.pass_environment
                if name in environment
            },
            "GRAPEVINE_CLUSTER": config.cluster,
        }

    async def list(self) -> Sequence[Machine]:
        """Run `list` and read what it prints."""
        ended = await self._run(self._commands.list, "", self._commands.list_timeout_s)
        if ended.returncode != 0:
            raise ProviderFailed(failure(ended, self._commands.list[0]))
        return parse_machines_untrusted(ended.stdout)

    async def create(self, name: str) -> None:
        """Run `create`, unless there is one of that name."""
        if await self._exists(name):
            return
        join = await self._join()
        command, timeout_s = self._commands.create, self._commands.create_timeout_s
        ended = await self._run(command, name, timeout_s, join)
        if ended.returncode != 0:
            refused = ended.returncode == REFUSED
            raise (ProviderRefused if refused else ProviderFailed)(failure(ended, command[0]))

    async def destroy(self, name: str) -> None:
        """Run `destroy`, if there is one of that name."""
        if not await self._exists(name):
            return
        command, timeout_s = self._commands.destroy, self._commands.destroy_timeout_s
        ended = await self._run(command, name, timeout_s)
        if ended.returncode != 0:
            raise ProviderFailed(failure(ended, command[0]))

    async def _exists(self, name: str) -> bool:
        return any(machine.name == name for machine in await self.list())

    async def _run(
        self, command: Sequence[str], name: str, timeout_s: float, join: Join | None = None
    ) -> Ended:
        filled = [
            part.replace("{name}", name).replace("{cluster}", self._config.cluster)
            for part in command
        ]
        environment = dict(self._environment)
        if name:
            environment["GRAPEVINE_NODE_NAME"] = name
        if join is not None:
            environment["GRAPEVINE_JOIN_TOKEN"] = join.token
            environment["GRAPEVINE_JOIN_ADDRESSES"] = ",".join(join.addresses)
        hidden = "" if join is None else join.token
        return await run_command(
            filled, environment=environment, timeout_s=timeout_s, hidden=hidden
        )
