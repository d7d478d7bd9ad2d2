"""Every bench, one after the other, and one table: what was measured, and what was promised.

    python -m tests.bench.run                 all of them
    python -m tests.bench.run idle cli        some

Exit status 1 when a promise is not kept. Measure on a machine that does nothing else.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from tests.bench.rows import Row, print_rows

HELPERS = {"run", "rows", "one_peer", "capacity"}


def main(chosen: list[str]) -> int:
    """Run the benches whose names were given, or all."""
    folder = Path(__file__).parent
    known = sorted(path.stem for path in folder.glob("*.py") if path.stem not in HELPERS)
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        sys.stderr.write(f"no such bench: {', '.join(unknown)}; there are {', '.join(known)}\n")
        return 2
    rows: list[Row] = []
    for name in chosen or known:
        sys.stderr.write(f"measuring {name} …\n")
        rows += importlib.import_module(f"tests.bench.{name}").measure()
    print_rows(rows)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
