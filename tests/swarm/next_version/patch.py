"""Makes the next version of Grapevine out of the installed one; run while its image is built.

Small, but all that two versions can differ in where they meet: what a peer says of itself has a
field more, the ledger has a migration more, and the package calls itself by another number.
"""

from __future__ import annotations

import compileall
import re
import shutil
from importlib.metadata import distribution
from pathlib import Path

VERSION = "0.2.0"

# The file, what is there once, and what takes its place.
EDITS = (
    (
        "gossip/rows.py",
        "    parked: bool = False\n",
        "    parked: bool = False\n    later: int = 0\n",
    ),
    (
        "gossip/fields.py",
        '    "parked": (TRUTH, False),\n',
        '    "parked": (TRUTH, False),\n    "later": (NUMBER_16, 0),\n',
    ),
    (
        "peer/neighbours.py",
        "            parked=self._parked,\n        )",
        "            parked=self._parked,\n            later=2,\n        )",
    ),
)


def patch(packages: Path) -> None:
    """Change the sources of the packages below a directory."""
    for name, before, after in EDITS:
        file = packages / name
        text = file.read_text()
        if text.count(before) != 1:
            raise SystemExit(f"{name} is not what it was: {before!r}")
        file.write_text(text.replace(before, after))


def main() -> None:
    """Patch what is installed, and compile it: bytecode that is there is not compared with it."""
    package = distribution("grapevine")
    packages = Path(str(package.locate_file("")))
    patch(packages)
    migrations = packages / "pipeline/ledger/migrations"
    number = len(list(migrations.glob("*.sql"))) + 1
    shutil.copy("/tmp/later.sql", migrations / f"{number:04}_later.sql")
    (metadata,) = packages.glob("grapevine-*.dist-info/METADATA")
    said = re.sub(r"(?m)^Version: .*$", f"Version: {VERSION}", metadata.read_text(), count=1)
    metadata.write_text(said)
    for name, _, _ in EDITS:
        compileall.compile_file(packages / name, force=True, quiet=1)


if __name__ == "__main__":
    main()
