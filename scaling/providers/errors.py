"""What goes wrong at a provider, where it matters which.

ProviderFailed          scaling.ports: it may have happened, or not; look again
└── ProviderRefused     it has certainly not happened, and trying again does not help
"""

from __future__ import annotations

from scaling.ports import ProviderFailed


class ProviderRefused(ProviderFailed):
    """No machine can come of this, however often it is tried: a person must change something."""
