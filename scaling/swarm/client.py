"""Calls to a Swarm's managers: bytes and specs, in threads, over the docker SDK's connections.

The SDK brings sockets, TLS and the API's version. Its own calls are not used: those for services
read the spec with the engine's defaults in it and write these back, which restarts every container,
and there is none for updating a config. So what is sent is what was read, changed where we changed
it.

A read is tried at each manager until one answers. A write goes to another one only if the first has
certainly not done it: after a lost answer nobody knows, and the next look tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import docker
import docker.constants
import msgspec
import requests
import trio
from docker.errors import DockerException
from docker.tls import TLSConfig

from scaling.ports import OrchestratorUnavailable
from scaling.swarm.api import Spec
from scaling.swarm.config import SwarmConfig
from scaling.swarm.problems import Lost, Problem, Refused, line_trouble, scaling_error
from scaling.swarm.unix_lines import UnixLines

T = TypeVar("T")

CALLS_AT_ONCE = 4
"""To one manager, in threads. One that was given up keeps its place until its socket's timeout, and
as long as a manager pleases that never quite falls silent: so each has places of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a manager said, who it was, and what its clock showed then."""

    url: str
    body: bytes
    at: datetime | None


class Managers:
    """The managers of one Swarm.

    Every method raises `Conflict` when a version was stale and `OrchestratorUnavailable` when
    nobody answers or the Swarm cannot do it now; `Refused` for what only the caller can judge: a
    thing that exists already (409), and one that does not exist (404).
    """

    def __init__(self, config: SwarmConfig) -> None:
        self._config = config
        self._lines = [Line(url, config) for url in config.managers]

    @property
    def line(self) -> Line:
        """To the manager that is asked first."""
        return self._lines[0]

    async def get(self, path: str, type: type[T], **query: str) -> T:
        """Ask."""
        return (await self.get_at(path, type, **query))[0]

    async def get_at(self, path: str, type: type[T], **query: str) -> tuple[T, datetime | None]:
        """Ask, and also learn what the manager's own clock shows."""
        answer = await self._call("GET", path, query)
        try:
            return msgspec.json.decode(answer.body, type=type), answer.at
        except msgspec.DecodeError as error:
            raise OrchestratorUnavailable(
                f"{answer.url} answered something that is not the Docker API: {error}"
            ) from error

    async def need(self, path: str, type: type[T], **query: str) -> T:
        """Ask for what every Swarm has."""
        return (await self.need_at(path, type, **query))[0]

    async def need_at(self, path: str, type: type[T], **query: str) -> tuple[T, datetime | None]:
        """Ask for what every Swarm has, as `get_at`; never raises `Refused`.

        It is refused all the same by a proxy that does not know it, and for tasks of a service
        that was removed since it was found.
        """
        try:
            return await self.get_at(path, type, **query)
        except Refused as refused:
            raise scaling_error(refused, self.line.url) from refused

    async def post(self, path: str, body: Spec, *, version: int | None = None) -> None:
        """Create something, or write a changed spec over the version that was read."""
        query = {} if version is None else {"version": str(version)}
        await self._call("POST", path, query, body)

    async def delete(self, path: str) -> None:
        """Remove something."""
        await self._call("DELETE", path, {})

    def close(self) -> None:
        """Let all connections go."""
        for line in self._lines:
            line.close()

    async def _call(
        self, method: str, path: str, query: Mapping[str, str], body: Spec | None = None
    ) -> Answer:
        """Ask one manager after the other, while it is certain that none has done it."""
        telling: tuple[Problem, str] | None = None
        for _ in range(len(self._lines)):
            line = self.line
            try:
                return await self._ask(line, method, path, query, body)
            except Problem as problem:
                if isinstance(problem, Refused) and (problem.exists or problem.missing):
                    raise
                # What a manager says tells more than that another one says nothing.
                if telling is None or isinstance(problem, Refused):
                    telling = problem, line.url
                if problem.elsewhere:
                    self._ask_another_first(line)
                if not (problem.elsewhere and (method == "GET" or problem.untouched)):
                    break
        if telling is None:
            raise AssertionError("there is one manager at least")
        raise scaling_error(*telling) from telling[0]

    async def _ask(
        self, line: Line, method: str, path: str, query: Mapping[str, str], body: Spec | None
    ) -> Answer:
        # A socket's timeout is for each silence; this one is for all of them.
        with trio.move_on_after(2 * self._config.timeout_s):
            return await trio.to_thread.run_sync(
                lambda: line.call(method, path, query, body),
                abandon_on_cancel=True,
                limiter=line.places,
            )
        raise Lost(f"the manager at {line.url} did not finish its answer")

    def _ask_another_first(self, line: Line) -> None:
        """Unless another call has seen to it already."""
        if self._lines[0] is line:
            self._lines.append(self._lines.pop(0))


class Line:
    """A connection to one manager, opened when it is first needed. Blocks; any thread may call.

    Attributes:
        places: For the threads that do.
    """

    def __init__(self, url: str, config: SwarmConfig) -> None:
        self.url = url
        self.places = trio.CapacityLimiter(CALLS_AT_ONCE)
        self._config = config
        self._client: docker.APIClient | None = None
        self._root = ""

    def call(self, method: str, path: str, query: Mapping[str, str], body: Spec | None) -> Answer:
        """Send a request and read its answer. Raises `Lost` and `Refused`."""
        with self._troubles():
            client = self._open()
            response = client.request(
                method,
                self._root + path,
                params=query,
                json=body,
                timeout=self._config.timeout_s,
            )
        if response.status_code >= 400:
            raise Refused(response.status_code, _message(response))
        return Answer(url=self.url, body=response.content, at=_date(response))

    @contextmanager
    def listen(self, path: str, query: Mapping[str, str], silence_s: float) -> Iterator[Stream]:
        """Read an answer that does not end. Raises `Lost` and `Refused`."""
        with self._troubles():
            client = self._open()
            response = client.get(
                self._root + path,
                params=query,
                stream=True,
                timeout=(self._config.timeout_s, silence_s),
            )
        with response:
            if response.status_code >= 400:
                raise Refused(response.status_code, _message(response))
            yield Stream(response, self._troubles)

    def close(self) -> None:
        """Let the connections go."""
        if self._client is not None:
            self._client.close()

    def _open(self) -> docker.APIClient:
        if self._client is None:
            # Given a version, the SDK asks for nothing before the environment is shut out: its
            # proxies and authorities are for the world outside, not for our managers.
            client = docker.APIClient(
                base_url=self.url,
                version=docker.constants.MINIMUM_DOCKER_API_VERSION,
                timeout=math.ceil(self._config.timeout_s),
                tls=self._tls(),
            )
            client.trust_env = False
            if self.url.startswith("unix://"):
                lines = UnixLines(self.url.removeprefix("unix://"), client.timeout)
                client.mount(f"{client.base_url}/", lines)
            # Old engines refuse new clients and the reverse, so its own version it is.
            answer = client.get(f"{client.base_url}/version", timeout=self._config.timeout_s)
            self._root = f"{client.base_url}/v{_version(answer)}"
            self._client = client
        return self._client

    def _tls(self) -> TLSConfig | bool:
        config = self._config
        if not self.url.startswith("https:") and config.ca_file is None:
            return False
        if self.url.startswith(("unix:", "http:")):
            return False
        own = None
        if config.certificate_file is not None and config.key_file is not None:
            own = (str(config.certificate_file), str(config.key_file))
        authority = str(config.ca_file) if config.ca_file else None
        return TLSConfig(client_cert=own, ca_cert=authority, verify=True)

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DockerException) as error:  # requests' own errors are OSErrors
            raise line_trouble(error, self.url) from error


class Stream:
    """An answer that goes on, and can be ended from another thread."""

    def __init__(self, response: requests.Response, troubles: Callable[[], Any]) -> None:
        self._response = response
        self._troubles = troubles

    def lines(self) -> Iterator[bytes]:
        """One after the other as they come, until the manager ends it."""
        with self._troubles():
            yield from self._response.iter_lines(chunk_size=None)

    def shutdown(self) -> None:
        """End whoever waits for the next line."""
        self._response.raw.shutdown()


def _version(response: requests.Response) -> str:
    """Of the newest API that it speaks. Raises `Refused`."""
    if response.status_code >= 400:
        raise Refused(response.status_code, _message(response))
    try:
        return str(response.json()["ApiVersion"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(response.status_code, f"no Docker API, but {response.text[:80]!r}") from error


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:500] or response.reason or "no reason given"


def _date(response: requests.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return None
