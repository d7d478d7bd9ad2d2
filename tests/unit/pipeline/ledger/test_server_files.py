"""What the embedded server has on disk: paths, settings, and what is said about a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import LedgerUnavailable
from pipeline.ledger import server_files


@pytest.mark.parametrize(
    ("directory", "host"),
    [
        ("/var/lib/grapevine/postgres", "/var/lib/grapevine/postgres/run"),
        ("/" + "x" * 88, "/" + "x" * 88 + "/run"),
        ("/" + "x" * 89, "/proc/self/fd/7/run"),
        ("/data/a,b", "/proc/self/fd/7/run"),
        ("/data/it's", "/proc/self/fd/7/run"),
        ("/data/été", "/proc/self/fd/7/run"),
        ("/data/a b", "/proc/self/fd/7/run"),
    ],
)
def test_where_libpq_finds_the_socket(directory: str, host: str) -> None:
    """A plain path that fits is used as it is, and any other by the descriptor's number."""
    assert server_files.socket_host(Path(directory), 7) == host
    path = f"{host}/.s.PGSQL.{server_files.PORT}"
    assert len(path) <= server_files.SOCKET_PATH_BYTES_MAX


@pytest.mark.parametrize(
    ("major", "fsync", "present", "absent"),
    [
        (18, True, {"io_method", "autovacuum_worker_slots"}, {"fsync", "full_page_writes"}),
        (15, True, {"listen_addresses"}, {"io_method", "autovacuum_worker_slots", "fsync"}),
        (16, False, {"fsync", "full_page_writes"}, {"synchronous_commit"}),
    ],
)
def test_settings(major: int, fsync: bool, present: set[str], absent: set[str]) -> None:
    """Each version is told only what it knows, and a commit is always written when confirmed."""
    settings = server_files.server_settings(major=major, fsync=fsync)

    assert present <= settings.keys()
    assert not absent & settings.keys()
    assert settings["listen_addresses"] == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("\n \n", ""),
        ("a\n\nb\n", "a\nb"),
        ("\n".join("abcdefghijk"), "d\ne\nf\ng\nh\ni\nj\nk"),
    ],
)
def test_the_last_lines(text: str, expected: str) -> None:
    """The end of a log without its empty lines, and not more than fits in a message."""
    assert server_files.last_lines(text) == expected


def test_a_fresh_directory_has_no_version(tmp_path: Path) -> None:
    """No data: any version will do."""
    assert server_files.data_major(tmp_path) is None


@pytest.mark.parametrize("content", [None, "", "eighteen"])
def test_damaged_data_are_named(tmp_path: Path, content: str | None) -> None:
    """A data directory that PostgreSQL did not make is not touched, and the error says so."""
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data/PG_VERSION").write_text(content)
    with pytest.raises(LedgerUnavailable, match=r"damaged .* move it away"):
        server_files.data_major(tmp_path)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The error names the directory, the reason, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailable, match="Not a directory; choose another"):
        server_files.open_directory(tmp_path / "file" / "postgres")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_directory(tmp_path: Path) -> None:
    """One user's ledger is not served by another, not even by root."""
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(LedgerUnavailable, match="belongs to user 12345, and this is user 0: run"):
        server_files.open_directory(tmp_path)


def test_the_directory_is_private_and_without_links(tmp_path: Path) -> None:
    """It is made with its parents, for us alone, and named by its real path."""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    opened = server_files.open_directory(tmp_path / "link" / "a" / "postgres")

    assert opened == tmp_path / "real/a/postgres"
    assert opened.stat().st_mode & 0o777 == 0o700


def test_the_log_of_the_start_before_is_kept(tmp_path: Path) -> None:
    """Each start begins a new log, so that it stays small; the one before can still be read."""
    for text in ("first\n", "second\n", "third\n"):
        descriptor = server_files.open_log(tmp_path)
        os.write(descriptor, text.encode())
        os.close(descriptor)

    assert server_files.log_tail(tmp_path) == "third"
    assert (tmp_path / "server.log.1").read_text() == "second\n"
    assert len(list(tmp_path.iterdir())) == 2
