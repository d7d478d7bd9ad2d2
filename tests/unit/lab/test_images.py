"""Images are the same to the byte for the same contents, and layers are made once."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from pathlib import Path

import pytest

from deploy.lab.images import tiny
from deploy.lab.images.archive import Image, digest, write_archive
from deploy.lab.images.cache import WORKSHOP, Cache
from deploy.lab.images.peer import DOCKERFILE, SOURCES
from deploy.lab.images.wheels import ROOT


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty one."""
    return Cache(tmp_path / "cache", lambda _: None)


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """Two layers, a file in each."""
    paths = []
    for name in ("lower", "upper"):
        (tmp_path / name).write_text(name)
        paths.append(tmp_path / f"{name}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            tar.add(tmp_path / name, name)
    return paths


def test_an_archive_is_what_docker_loads(tmp_path: Path, layers: list[Path]) -> None:
    """The manifest names the configuration by its digest, and the layers in their order."""
    image = Image(
        tag="a:b", layers=layers, entrypoint=["/run"], environment={"HOME": "/x"}, user="me"
    )
    write_archive(tmp_path / "image.tar", [image])

    with tarfile.open(tmp_path / "image.tar") as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(name)
            assert member is not None
            return member.read()

        (manifest,) = json.loads(read("manifest.json"))
        configuration = json.loads(read(manifest["Config"]))
        assert manifest["Config"] == hashlib.sha256(read(manifest["Config"])).hexdigest() + ".json"
        assert manifest["RepoTags"] == ["a:b"]
        assert [hashlib.sha256(read(name)).hexdigest() for name in manifest["Layers"]] == [
            digest(layer) for layer in layers
        ]
        assert configuration["rootfs"]["diff_ids"] == [f"sha256:{digest(one)}" for one in layers]
        assert configuration["config"]["Entrypoint"] == ["/run"]
        assert configuration["config"]["User"] == "me"
        assert "HOME=/x" in configuration["config"]["Env"]


def test_the_same_contents_are_the_same_image(tmp_path: Path, layers: list[Path]) -> None:
    """Written twice, an archive differs in no byte, so the image has one identity everywhere."""
    image = Image(tag="a:b", layers=layers, entrypoint=["/run"])
    for name in ("first", "second"):
        write_archive(tmp_path / name, [image])
        layers[0].touch()

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_busybox_with_libraries_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that needs a loader would not start in an image without one, so it is not taken."""
    dynamic, static = tmp_path / "dynamic", tmp_path / "static"
    dynamic.write_bytes(b"\x7fELF....../lib64/ld-linux-x86-64.so.2")
    static.write_bytes(b"\x7fELF......")

    monkeypatch.setattr(tiny, "BUSYBOX", (dynamic, static))

    assert tiny.find_busybox() == static


def test_a_layer_is_made_once(cache: Cache) -> None:
    """The same contents are taken from the cache, others are made."""
    made = []

    def make(path: Path, work: Path) -> None:
        assert list(work.iterdir()) == []
        made.append(path)
        path.write_text(str(len(made)))

    first = cache.get("kind", ["a"], make)
    again = cache.get("kind", ["a"], make)
    other = cache.get("kind", ["b"], make)

    assert first == again != other
    assert [first.read_text(), other.read_text()] == ["1", "2"]


def test_half_a_layer_is_none(cache: Cache) -> None:
    """A making that fails leaves no file of that name, and the next one starts with nothing."""

    def fail(path: Path, work: Path) -> None:
        path.write_text("half")
        (work / "rest").write_text("rest")
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError):
        cache.get("kind", ["a"], fail)
    assert list(cache.directory.glob("*.tar")) == []

    path = cache.get("kind", ["a"], lambda path, work: path.write_text(str(list(work.iterdir()))))

    assert path.read_text() == "[]"
    assert not (cache.directory / WORKSHOP).exists()


def test_the_cache_keeps_the_last_three_of_a_kind(cache: Cache) -> None:
    """Layers are large: those that were used longest ago go when a new one is made."""
    paths = [
        cache.get("kind", [number], lambda path, _: path.write_text("x")) for number in range(5)
    ]

    assert [path.exists() for path in paths] == [False, False, True, True, True]


def test_the_builder_is_sent_what_the_dockerfile_copies() -> None:
    """Nothing is missing there, and nothing else of this machine is sent."""
    text = (ROOT / DOCKERFILE).read_text()
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
        for source in line.split()
        if source != "wheel[s]"
    }
    assert {*SOURCES} == {DOCKERFILE, *copied}
