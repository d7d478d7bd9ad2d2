"""Where layers are kept between labs: a file for each, named by a digest of what went into it.

What takes long (Debian, the Python packages) is made once and used until something in it changes.
A file is there whole or not at all, one process makes it at a time, and what was left of a
making that was killed goes with the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CACHE = Path("/var/cache/grapevine-lab")
WORKSHOP = "workshop"


class Cache:
    """A directory of finished files.

    Args:
        directory: Made when it is missing.
        say: Is told when something has to be made, which takes long.
    """

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self.directory = directory
        self._say = say

    def get(
        self, kind: str, contents: Any, make: Callable[[Path, Path], object], sentence: str = ""
    ) -> Path:
        """Return the file of these contents; make it first if it is not there.

        Args:
            kind: What it is, the beginning of its name.
            contents: All that decides what is in it, as JSON can write it.
            make: Called with a path to write to and with an empty directory to work in.
            sentence: To be said before that.
        """
        text = json.dumps([kind, contents], sort_keys=True)
        path = self.directory / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.tar"
        if not path.exists():
            with self._workshop() as workshop:
                if not path.exists():  # another process made it while we waited
                    if sentence:
                        self._say(sentence)
                    self._remove_older(kind)
                    partial = workshop / path.name
                    work = workshop / "work"
                    work.mkdir()
                    make(partial, work)
                    partial.replace(path)
        path.touch()  # in use: not among those that are thrown away next
        return path

    @contextmanager
    def _workshop(self) -> Iterator[Path]:
        """An empty directory that nobody else uses."""
        self.directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.directory, os.O_RDONLY)
        workshop = self.directory / WORKSHOP
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            shutil.rmtree(workshop, ignore_errors=True)
            workshop.mkdir()
            yield workshop
            shutil.rmtree(workshop)
        finally:
            os.close(handle)

    def _remove_older(self, kind: str) -> None:
        """Keep those two that were used last: the files are large."""
        older = sorted(self.directory.glob(f"{kind}-*.tar"), key=lambda path: path.stat().st_mtime)
        for path in older[:-2]:
            path.unlink(missing_ok=True)
