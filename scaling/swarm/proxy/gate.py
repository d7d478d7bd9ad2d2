"""What is asked of the gate, and what it asks the engine for that: reads pared down, changes made
of what is there.

A read shows our service, its tasks, the nodes, and our own configs; of the Swarm itself the token
that workers join with, where machines are made at all. A change is written over the version that
was read for it: if somebody was quicker, the caller hears what the engine itself would say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from scaling.swarm.api import SwarmNode, SwarmObject, SwarmService
from scaling.swarm.intents import SERVICE as INTENT_SERVICE
from scaling.swarm.nudges import FILTERS as EVENT_FILTERS
from scaling.swarm.problems import OUT_OF_SEQUENCE
from scaling.swarm.proxy import changes
from scaling.swarm.proxy.asking import Asked, Forbidden, Request, asked
from scaling.swarm.proxy.changes import Bounds
from scaling.swarm.proxy.engine import Engine, EngineAway, Piece, Reply

_Versioned = SwarmService | SwarmNode | SwarmObject


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told.

    Args:
        status: Of HTTP.
        more: The pieces of an answer that goes on.
        refused: Why it did not pass, for the log.
    """

    status: int
    body: bytes = b""
    date: str = ""
    more: Piece | None = None
    refused: str = ""


class Gate:
    """Decides and asks; any number of calls at once.

    Args:
        joins: Whether to tell the token that workers join with.
    """

    def __init__(self, engine: Engine, bounds: Bounds, *, joins: bool) -> None:
        self._engine = engine
        self._bounds = bounds
        self._joins = joins
        self._does: dict[str, Callable[[Asked], Awaitable[Reply]]] = {
            "ping": self._plain("/_ping"),
            "version": self._plain("/version"),
            "nodes": self._plain("/nodes"),
            "service": self._service,
            "tasks": self._tasks,
            "configs": self._configs,
            "config": self._config,
            "join": self._join,
            "create config": self._create_config,
            "update service": self._update_service,
            "update node": self._update_node,
            "update config": self._update_config,
            "remove node": self._remove_node,
            "remove config": self._remove_config,
        }

    @asynccontextmanager
    async def answer(self, request: Request) -> AsyncIterator[Answer]:
        """Answer a request; one for events goes on until the block is left."""
        async with AsyncExitStack() as following:
            try:
                wish = asked(request)
                if wish.what == "events":
                    answer = await self._events(wish, following)
                else:
                    reply = await self._does[wish.what](wish)
                    answer = Answer(reply.status, reply.body, reply.date)
            except Forbidden as refusal:
                answer = Answer(refusal.status, message(str(refusal)), refused=str(refusal))
            except _Said as said:
                answer = Answer(said.reply.status, said.reply.body, said.reply.date)
            except EngineAway as trouble:
                # 503: another manager may well do it.
                answer = Answer(503, message(str(trouble)))
            yield answer

    def _plain(self, path: str) -> Callable[[Asked], Awaitable[Reply]]:
        async def ask(_: Asked) -> Reply:
            return await self._engine.ask("GET", path)

        return ask

    async def _events(self, wish: Asked, following: AsyncExitStack) -> Answer:
        expected = msgspec.json.decode(EVENT_FILTERS)
        if wish.filters != expected:
            raise Forbidden(f"events are told with the filters {EVENT_FILTERS} only")
        status, more = await following.enter_async_context(
            self._engine.follow("/events", {"filters": EVENT_FILTERS})
        )
        return Answer(status, more=more)

    async def _service(self, wish: Asked) -> Reply:
        return (await self._our_service(wish.id))[1]

    async def _our_service(self, id: str) -> tuple[SwarmService, Reply]:
        """The service as it is stored, if the caller means that one."""
        name = self._bounds.swarm.service
        reply = await self._read(f"/services/{name}")
        found = _decoded(reply, SwarmService)
        if found.spec.get("Name") != name or id not in (found.id, name):
            raise Forbidden(f"this proxy shows and scales the service {name} only")
        return found, reply

    async def _tasks(self, wish: Asked) -> Reply:
        found, _ = await self._our_service(self._bounds.swarm.service)
        if wish.filters not in ({"service": [found.id]}, {"service": [self._bounds.swarm.service]}):
            raise Forbidden(f"tasks are told of the service {self._bounds.swarm.service} only")
        return await self._read("/tasks", {"service": [found.id]})

    async def _configs(self, wish: Asked) -> Reply:
        filters = {"label": [f"{INTENT_SERVICE}={self._bounds.swarm.service}"]}
        if wish.filters != filters:
            raise Forbidden(f"configs are listed with the filters {_text(filters)} only")
        reply = await self._read("/configs", filters)
        ours = [one for one in reply.json() if self._is_ours(one)]
        return Reply(reply.status, msgspec.json.encode(ours), reply.date)

    def _is_ours(self, config: Any) -> bool:
        return changes.is_ours(config["Spec"].get("Name"), self._bounds)

    async def _config(self, wish: Asked) -> Reply:
        return (await self._our_config(wish.id))[1]

    async def _our_config(self, id: str) -> tuple[SwarmObject, Reply]:
        """One of our configs; to a stranger's, the answer is the same as to none."""
        reply = await self._read(f"/configs/{id}")
        found = _decoded(reply, SwarmObject)
        if not changes.is_ours(found.spec.get("Name"), self._bounds) or id not in (
            found.id,
            found.name,
        ):
            raise Forbidden("there is no such config of scaling's", status=404)
        return found, reply

    async def _join(self, _: Asked) -> Reply:
        """The Swarm has a second token, that managers join with: it is not for us."""
        if not self._joins:
            raise Forbidden("this proxy does not tell how machines join; it was started without it")
        reply = await self._read("/swarm")
        tokens = {"JoinTokens": {"Worker": reply.json()["JoinTokens"]["Worker"]}}
        return Reply(reply.status, msgspec.json.encode(tokens), reply.date)

    async def _create_config(self, wish: Asked) -> Reply:
        return await self._engine.ask(
            "POST", "/configs/create", body=changes.new_config(wish.body, self._bounds)
        )

    async def _update_service(self, wish: Asked) -> Reply:
        found, _ = await self._our_service(wish.id)
        _check_version(found, wish)
        spec = changes.service(found.spec, wish.body, self._bounds)
        return await self._write(f"/services/{found.id}/update", found, spec)

    async def _update_node(self, wish: Asked) -> Reply:
        found = await self._node(wish.id)
        _check_version(found, wish)
        spec = changes.node(found, wish.body, self._bounds)
        return await self._write(f"/nodes/{found.id}/update", found, spec)

    async def _update_config(self, wish: Asked) -> Reply:
        found, _ = await self._our_config(wish.id)
        _check_version(found, wish)
        spec = changes.config(found.spec, wish.body, self._bounds)
        return await self._write(f"/configs/{found.id}/update", found, spec)

    async def _remove_node(self, wish: Asked) -> Reply:
        found = await self._node(wish.id)
        changes.removable_node(found, self._bounds)
        return await self._engine.ask("DELETE", f"/nodes/{found.id}")

    async def _remove_config(self, wish: Asked) -> Reply:
        found, _ = await self._our_config(wish.id)
        changes.removable_config(found.spec, self._bounds)
        return await self._engine.ask("DELETE", f"/configs/{found.id}")

    async def _node(self, id: str) -> SwarmNode:
        found: SwarmNode = _decoded(await self._read(f"/nodes/{id}"), SwarmNode)
        if found.id != id:
            raise Forbidden("a node is named by its whole id here")
        return found

    async def _read(self, path: str, filters: Any = None) -> Reply:
        """Ask; an answer that is an error goes to the caller as it is."""
        query = {} if filters is None else {"filters": _text(filters)}
        reply = await self._engine.ask("GET", path, query)
        if reply.status >= 400:
            raise _Said(reply)
        return reply

    async def _write(self, path: str, found: _Versioned, spec: Any) -> Reply:
        return await self._engine.ask("POST", path, {"version": str(found.version.index)}, spec)


class _Said(Exception):
    """The engine's own refusal, for the caller."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def message(sentence: str) -> bytes:
    """An error as Docker's API words it."""
    return msgspec.json.encode({"message": sentence})


def _check_version(found: _Versioned, wish: Asked) -> None:
    """What was compared is what is written over; a stale caller hears the engine's own words."""
    if found.version.index != wish.version:
        said = f"rpc error: code = Unknown desc = update {OUT_OF_SEQUENCE}"
        raise _Said(Reply(500, message(said)))


def _decoded(reply: Reply, type: Any) -> Any:
    try:
        return msgspec.json.decode(reply.body, type=type)
    except msgspec.DecodeError as error:
        raise EngineAway(f"the Docker engine's answer cannot be read: {error}") from error


def _text(filters: Any) -> str:
    return msgspec.json.encode(filters).decode()
