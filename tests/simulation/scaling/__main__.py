"""The table: see `tests.simulation.scaling.table`."""

from __future__ import annotations

import sys

from tests.simulation.scaling.table import main

if __name__ == "__main__":
    sys.exit(main())
