"""Whether this machine's kernel has all that a fence around a program is made of."""

from __future__ import annotations

from pipeline.media.confinement import attempt
from tests.missing import do_without


def demand_fence() -> None:
    """Skip where a layer is missing, and fail there in CI."""
    for layer, why in attempt().items():
        if why:
            do_without(f"this kernel cannot fence in {layer.value}: {why}")
