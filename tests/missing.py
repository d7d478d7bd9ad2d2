"""What a test needs and this machine has not: skipped for people, a failure in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def do_without(what: str) -> NoReturn:
    """End the test because that is missing; `what` says what to do about it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
