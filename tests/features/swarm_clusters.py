"""The clusters of scenarios, one at a time: a scenario that wants what is there is given that.

A cluster takes twenty seconds until its leader may act: ten of these wait for an election, which no
setting shortens, because a leader that is chosen in a hurry is none. Scenarios of failures end with
everything mended, and say so in their last step; so the next one begins with the same cluster. What
was logged and decided before is not its own: see `Story.begin`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

import pytest

from tests.features.swarm_stage import Cluster, Services, Settings, Stage, running_cluster

MENDED_WITHIN_S = 30.0

MakeStage = Callable[[], AbstractContextManager[Stage]]
"""Makes a Swarm with nothing on it, which is gone, or has nothing on it, afterwards."""


class Clusters:
    """Provides clusters while its context lasts."""

    def __init__(
        self, stages: MakeStage, services: Services, directories: pytest.TempPathFactory
    ) -> None:
        self._stages, self._services, self._directories = stages, services, directories
        self._stack = ExitStack()
        self._there: tuple[Settings, Cluster] | None = None

    def __enter__(self) -> Clusters:
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def provide(self, settings: Settings) -> Cluster:
        """The one that is there, if it has these settings and is as it was in the beginning; else a
        new one, on a Swarm with nothing on it."""
        if self._there is not None:
            its_settings, cluster = self._there
            if its_settings == settings and cluster.becomes_ready(MENDED_WITHIN_S):
                return cluster
            self._there = None
            self._stack.close()
        stage = self._stack.enter_context(self._stages())
        files = self._directories.mktemp("files")
        files.chmod(0o755)
        cluster = self._stack.enter_context(running_cluster(stage, self._services, files, settings))
        self._there = settings, cluster
        return cluster
