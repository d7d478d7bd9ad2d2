"""A Docker image, written as `docker save` would write it.

The format is small: a tar archive of the layers' own tar archives, a configuration that lists their
digests, and a manifest with the name. To write it ourselves makes an image the same to the byte on
every node and in every run, needs no engine to build with (the lab's have no network), and lets
layers be kept on disk and used again. `docker import` and `docker build` would give each node's
image another identity, and Swarm compares those.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image to be written.

    Args:
        tag: Its name and tag.
        layers: Tar archives of file trees, the lowest first.
        entrypoint: What it runs.
        command: With these arguments, where nobody gives others.
        environment: Variables for that.
        user: Who runs it.
        stop_signal: What tells it to end, if not SIGTERM.
        labels: For people.
    """

    tag: str
    layers: Sequence[Path]
    entrypoint: Sequence[str]
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    stop_signal: str = "SIGTERM"
    labels: Mapping[str, str] = field(default_factory=dict)

    def configure(self, digests: Sequence[str]) -> dict[str, Any]:
        """Return its configuration, by the digests of its layers."""
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        } | dict(self.environment)
        machine = platform.machine()
        return {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "created": EPOCH,
            "config": {
                "Entrypoint": list(self.entrypoint),
                "Cmd": list(self.command),
                "Env": [f"{name}={value}" for name, value in environment.items()],
                "Labels": dict(self.labels),
                "User": self.user,
                "StopSignal": self.stop_signal,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
            "history": [{"created": EPOCH} for _ in digests],
        }


def write_archive(path: Path, images: Sequence[Image]) -> None:
    """Write images into one archive, a layer of several once; it is there whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    layers = {layer: digest(layer) for image in images for layer in image.layers}
    manifest = []
    try:
        with tarfile.open(partial, "w") as archive:
            for name, layer in {name: layer for layer, name in layers.items()}.items():
                archive.add(layer, f"{name}.tar", filter=anonymous)
            for image in images:
                digests = [layers[layer] for layer in image.layers]
                configuration = json.dumps(image.configure(digests), sort_keys=True).encode()
                name = f"{hashlib.sha256(configuration).hexdigest()}.json"
                _add(archive, name, configuration)
                manifest.append(
                    {
                        "Config": name,
                        "RepoTags": [image.tag],
                        "Layers": [f"{digest}.tar" for digest in digests],
                    }
                )
            _add(archive, "manifest.json", json.dumps(manifest).encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Root's, and of no particular time: the same files are the same archive."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
