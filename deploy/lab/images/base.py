"""Debian with Python and ffmpeg, by debootstrap: what a public base image is where there is one.

Made without the network of any container: debootstrap runs on this machine, in process and mount
namespaces of its own that end with this command. Its package mirror is the machine's own.
"""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from deploy.lab.errors import LabError
from deploy.lab.images.cache import Cache
from deploy.lab.shell import BOUND, run

SUITE = "bookworm"
PYTHON = "3.11"
"""The one of that suite; wheels are chosen for it."""

PACKAGES = ("python3", "python3-venv", "ca-certificates", "ffmpeg")
USER = "grapevine"
HOME = "/var/lib/grapevine"

LEFT_OUT = (
    "./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/man/*",
    "./usr/share/locale/*", "./dev/*", "./proc/*", "./sys/*",
    # Drivers that draw on graphics cards, and the compiler in them: a quarter of all, which
    # ffmpeg's package asks for and transcoding on processors never opens.
    "./usr/lib/*/dri", "./usr/lib/*/libLLVM-*", "./usr/lib/*/libz3.so*",
)  # fmt: skip

MAKE_S = 600.0


def layer(cache: Cache) -> Path:
    """Return the layer, made if need be: 40 to 80 s, and 150 MB to fetch."""
    if shutil.which("debootstrap") is None:
        raise LabError(
            "Not installed: debootstrap. On Debian: apt-get install -y debootstrap"
            " (or --image tiny, which needs none)"
        )
    contents = [SUITE, PACKAGES, LEFT_OUT, USER, platform.machine()]
    return cache.get("base", contents, _make, "Making a base image by debootstrap, about a minute")


def _make(path: Path, work: Path) -> None:
    root = work / "root"
    mirror = _find_mirror()
    confined = (
        *BOUND, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
    )  # fmt: skip
    run(
        *confined, "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}",
        SUITE, str(root), *mirror,
        timeout_s=MAKE_S,
    )  # fmt: skip
    run(
        *confined, "chroot", str(root), "useradd", "--uid", "10001", "--user-group",
        "--create-home", "--home-dir", HOME, "--shell", "/bin/sh", USER,
    )  # fmt: skip
    left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    run(
        "tar", "--create", f"--file={path}", f"--directory={root}", "--sort=name",
        "--numeric-owner", "--xattrs", *left_out, ".",
        timeout_s=MAKE_S,
    )  # fmt: skip


def _find_mirror() -> list[str]:
    """The mirror that this machine's own packages come from, if it is of the same Debian."""
    if shutil.which("apt-get") is not None:
        form = "$(CODENAME) $(REPO_URI)"
        targets = run("apt-get", "indextargets", "--format", form, "Created-By: Packages")
        for line in targets.splitlines():
            suite, _, address = line.partition(" ")
            if suite == SUITE and address:
                return [address]
    return []  # debootstrap's own default
