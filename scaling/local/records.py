"""What containers there are on this machine: a file for each, locked for as long as it lives.

    <data_dir>/containers/place              which data directory this is, for the ledger
                          tending            locked by the one peer that starts and stops processes
                          <id>.container     one container; locked by its own process
                          logs/<name>.log    what it says; begun anew at each start

    {"id": "worker-1.2-5f3a", "slot": 2, "node": "worker-1", …}
    pid 4711
    told 81234.5

A process id alone means whoever has that number today. So the file is locked (`flock`), and the
process inherits the open file: the kernel lets go when it ends, however it ends, and while the lock
is held the number cannot have been given to anybody else. A signal is sent through a descriptor of
the process that was opened before the lock was looked at, so none can reach a stranger either.
Rejected: the start time beside the number, which has to be read from two places that change.

`told` is when it was asked to end, on the machine's clock since its start: a second SIGTERM means
"hurry" to a peer, so whoever tends the containers next must not say it again.
"""

from __future__ import annotations

import fcntl
import os
import platform
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from scaling.local import launch
from scaling.local.containers import Found, Launch, Record

SUFFIX = ".container"
LAUNCH_WITHIN_S = 20.0


class Records:
    """The containers of one data directory. All of it may block for some milliseconds.

    Raises:
        OSError: The directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def place(self) -> str:
        """What the ledger calls this directory: an id that moves with it, and the machine."""
        file = self._directory / "place"
        with suppress(FileNotFoundError):
            return file.read_text(encoding="utf-8").strip()
        self._make()
        made = self._temporary()
        made.write_text(
            f"{secrets.token_hex(4)} on {platform.node() or 'this machine'}\n", encoding="utf-8"
        )
        try:
            with suppress(FileExistsError):  # another peer was first
                os.link(made, file)
        finally:
            made.unlink()
        return file.read_text(encoding="utf-8").strip()

    @contextmanager
    def tending(self) -> Iterator[bool]:
        """Hold the right to start and stop processes here, if nobody else does."""
        self._make()
        lock = os.open(self._directory / "tending", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _locked(lock, fcntl.LOCK_EX)
        finally:
            os.close(lock)

    def look(self) -> list[Found]:
        """All of which there is a file, by slot."""
        files = sorted(self._directory.glob(f"*{SUFFIX}"))
        found = [each for file in files if (each := self._read(file)) is not None]
        return sorted(found, key=lambda each: (each.record.slot, each.record.id))

    @contextmanager
    def own(self, record: Record) -> Iterator[None]:
        """Be a container that a person has started, for as long as the block runs."""
        with self._locked_file(record, first=f"pid {os.getpid()}\n"):
            yield
            self.forget(record.id)

    def begin(self, record: Record, start: Launch) -> None:
        """Start a container.

        Raises:
            OSError: It could not be started.
        """
        log = self.log(record.name)
        self._make()
        log.parent.mkdir(mode=0o700, exist_ok=True)
        with self._locked_file(record) as lock, log.open("wb") as output:
            launcher = [sys.executable, "-I", "-S", launch.__file__, str(self._file(record.id))]
            subprocess.run(
                [*launcher, *start.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock, *start.descriptors],
                timeout=LAUNCH_WITHIN_S,
                check=True,
            )

    def tell(self, found: Found, now_s: float) -> None:
        """Ask it to end when it has finished its work (SIGTERM); the second time, to hurry.

        One that has not said yet which process it is cannot be asked: at the next look it has.
        """
        if not found.pid:
            return
        # Written first: to be told twice means to hurry, and to be told too late only takes longer.
        with self._file(found.record.id).open("a", encoding="ascii") as written:
            written.write(f"told {now_s}\n")
        self._signal(found, signal.SIGTERM)

    def kill(self, found: Found) -> None:
        """End it at once."""
        self._signal(found, signal.SIGKILL)

    def log(self, name: str) -> Path:
        """Where the peer of that name writes what it has to say."""
        return self._directory / "logs" / f"{name}.log"

    def forget(self, name: str) -> None:
        """Remove what was known of one that has ended."""
        self._file(name).unlink(missing_ok=True)

    def _signal(self, found: Found, number: int) -> None:
        if not found.pid:
            return
        with suppress(ProcessLookupError):
            process = os.pidfd_open(found.pid)
            try:
                if self._lives(self._file(found.record.id)):
                    signal.pidfd_send_signal(process, number)
            finally:
                os.close(process)

    @contextmanager
    def _locked_file(self, record: Record, first: str = "") -> Iterator[int]:
        """Make the record's file; it is seen by others only when it is whole and locked."""
        self._make()
        made = self._temporary()
        lock = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.write(lock, msgspec.json.encode(record) + b"\n" + first.encode())
            made.replace(self._file(record.id))
            yield lock
        finally:
            made.unlink(missing_ok=True)
            os.close(lock)

    def _read(self, file: Path) -> Found | None:
        """None when it is gone meanwhile, or is nothing that we have written."""
        try:
            # Looked at first: one that ends between the two was alive when it said what is read.
            alive = self._lives(file)
            first, *lines = file.read_text(encoding="utf-8").splitlines()
            record = msgspec.json.decode(first, type=Record)
            said = [line.split(" ") for line in lines]
            pids = [int(words[1]) for words in said if words[0] == "pid"]
            told = [float(words[1]) for words in said if words[0] == "told"]
        except (OSError, ValueError, IndexError):
            return None
        return Found(record=record, alive=alive, pid=pids[-1] if pids else 0, told_s=tuple(told))

    def _lives(self, file: Path) -> bool:
        try:
            probe = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(probe, fcntl.LOCK_SH)
        finally:
            os.close(probe)

    def _file(self, name: str) -> Path:
        return self._directory / f"{quote(name, safe='')}{SUFFIX}"

    def _temporary(self) -> Path:
        return self._directory / f".{secrets.token_hex(8)}"

    def _make(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def machine_clock_s() -> float:
    """Seconds since this machine was started: the same clock in all of its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
