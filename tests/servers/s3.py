"""An S3 server for tests: MinIO's own front end, as `juicefs gateway` carries it, on local files.

It is the real protocol code (signatures, multipart, conditional requests, errors as XML) over a
store of its own; it starts in a third of a second, and keeps its data over a restart and a kill.
What it cannot do (versions, lifecycle rules, `HEAD ?partNumber=`) no test may ask of it. It never
calls home and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import urllib3

from tests.servers.guardian import Guardian

PROGRAM = "juicefs"
READY_S = 20.0
STOP_S = 10.0


class S3Server:
    """One server, whose port, keys and data stay the same however often it is started.

    It is a process group of its own, and every method that ends it does so by its id.

    Args:
        directory: For its data; made when it is missing. Whoever made it removes it.
        port: Where it listens on 127.0.0.1; 0 finds a free one, once.
    """

    access_key = "grapevine-tests"
    secret_key = "only-for-tests"
    region = "us-east-1"
    domain = "s3.localhost"
    """Below it every bucket is a host: virtual-host style."""

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        self._directory = directory
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian = Guardian()

    @property
    def endpoint(self) -> str:
        """Its URL, as clients are given it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the running server."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Return when it answers. A server that is running already is left as it is."""
        if self._process is not None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        program, metadata = _program(), f"sqlite3://{self._directory / 'metadata.db'}"
        if not (self._directory / "metadata.db").exists():
            self._format(program, metadata)
        environment = {
            **os.environ,
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
        }
        # Its own file system has journal files, caches and trash that a test has no use for.
        arguments = [
            *(program, "--no-agent", "gateway", metadata, f"127.0.0.1:{self.port}"),
            *("--multi-buckets", "--keep-etag", "--object-tag", "--object-meta", "--no-banner"),
            *("--domain", self.domain),
            *("--cache-dir", str(self._directory / "cache"), "--cache-size", "0"),
            *("--log", str(self._directory / "log"), "--no-bgjob", "--no-usage-report"),
            *("--metrics", "127.0.0.1:0"),
        ]
        with (self._directory / "output").open("ab") as output:
            self._process = _spawn(arguments, environment, output)
        self._guardian.guard(self._process.pid)
        self._wait_until_ready()

    def stop(self) -> None:
        """End it as an administrator would: it finishes what it is doing."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it stand still; its socket still takes connections, and nobody answers them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _format(self, program: str, metadata: str) -> None:
        formatted = subprocess.run(
            [
                *(program, "format", "--no-agent", "--storage", "file", "--trash-days", "0"),
                *("--bucket", f"{self._directory / 'data'}/", metadata, "store"),
            ],
            capture_output=True,
            check=False,
        )
        if formatted.returncode != 0:
            raise RuntimeError(f"juicefs format: {formatted.stderr.decode(errors='replace')}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        with urllib3.PoolManager(retries=False, timeout=1.0) as http:
            while True:
                with suppress(urllib3.exceptions.HTTPError):
                    if http.request("GET", f"{self.endpoint}/minio/health/live").status == 200:
                        return
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    self.kill()
                    output = (self._directory / "output").read_text(errors="replace")
                    raise RuntimeError(f"the S3 server does not start:\n{output[-2000:]}")
                time.sleep(0.02)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the S3 server is not running")
        os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._guardian.dismiss()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            os.killpg(process.pid, signal.SIGCONT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _program() -> str:
    """Beside this interpreter, where the wheel puts it, or on PATH."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if beside.exists() else shutil.which(PROGRAM)
    if found is None:
        raise RuntimeError("the tests' S3 server is missing; install the extra `test`")
    return found


def _spawn(
    arguments: list[str], environment: dict[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
