"""The smallest image that behaves like a peer towards Swarm: a shell, and a script that drains.

Two megabytes are on every node within a second, so a test of Swarm's behaviour does not wait for
Python. Debian's busybox-static brings the shell.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from deploy.lab.errors import LabError
from deploy.lab.images.archive import Image, anonymous, digest, write_archive
from deploy.lab.images.cache import Cache

TAG = "grapevine-tiny:lab"
BUSYBOX = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
COMMANDS = ("sh", "sleep", "cat", "echo", "kill", "ps", "hostname", "nslookup", "ping")

# A peer takes TERM as the order to drain, and never leaves with 0: Swarm would count it as done.
PEER = b"""#!/bin/sh
# DRAIN_S: how many seconds of work are left when TERM comes.
trap 'echo draining; sleep "${DRAIN_S:-0}"; exit 143' TERM
echo working
while true; do
    sleep 3600 &
    wait $!
done
"""


def find_busybox() -> Path:
    """Find the shell; it must be linked statically, for the image has no libraries."""
    for path in BUSYBOX:
        if path.exists() and b"/ld-linux" not in path.read_bytes()[:4096]:
            return path
    raise LabError("Not installed: busybox-static. On Debian: apt-get install -y busybox-static")


def write(cache: Cache) -> Path:
    """Return the image's archive, made if it is not there yet."""
    busybox = find_busybox()

    def make(path: Path, work: Path) -> None:
        layer = work / "layer.tar"
        _pack(layer, busybox)
        write_archive(path, [Image(tag=TAG, layers=[layer], entrypoint=["/bin/peer"])])

    return cache.get("tiny", [digest(busybox), COMMANDS, PEER.decode()], make)


def _pack(layer: Path, busybox: Path) -> None:
    with tarfile.open(layer, "w") as tar:
        for name in ("bin", "tmp", "etc", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox", filter=anonymous)
        for name in COMMANDS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/peer")
        entry.size, entry.mode = len(PEER), 0o755
        tar.addfile(entry, io.BytesIO(PEER))
