"""Which tasks demos of this directory have begun and not seen ended.

They are cancelled when a demo is stopped, and by the next one when it was killed, so that nobody
goes on with a video that no one waits for. A file remembers them by their ids: what else lies in
the directory's ledger is other people's, and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from peer.client import Peer
from peer.commands.session import shaped
from peer.errors import BadAnswer, CommandFailed, NoPeer
from peer.protocol import STOPPED
from pipeline.tasks import TaskReport


class Begun:
    """The tasks of one directory; its lock is held by the caller."""

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / "demo.tasks"

    def add(self, task_id: str) -> None:
        """Remember a task; before it is handed in, so that it is never missed."""
        self._write([*self._ids(), task_id])

    def forget(self, task_id: str) -> None:
        """Its end was seen."""
        self._write(known for known in self._ids() if known != task_id)

    def cancel(self, peer: Peer, reason: str) -> None:
        """Cancel what is unfinished; what cannot be is left to the next demo."""
        for task_id in self._ids():
            try:
                task = shaped(TaskReport, peer.ask("task", id=task_id))
                if task.state not in STOPPED:
                    peer.ask("cancel", id=task_id, reason=reason)
            except CommandFailed as error:
                if error.kind != "not_found":
                    continue
            except (NoPeer, BadAnswer):
                return
            self.forget(task_id)

    def _ids(self) -> list[str]:
        try:
            return self._file.read_text().split()
        except FileNotFoundError:
            return []

    def _write(self, ids: Iterable[str]) -> None:
        self._file.write_text("".join(f"{task_id}\n" for task_id in ids))
