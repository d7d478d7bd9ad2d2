"""What goes wrong on purpose: for each of the three operations, one task that it fails for."""

from __future__ import annotations

from tests.features.client import LADDER, Asked, Client, Rung
from tests.features.services_rig import Site

PULL, TRANSCODE, PUSH = "pull", "transcode", "push"
CODES = {PULL: "checksum_mismatch", TRANSCODE: "ffmpeg_failed", PUSH: "checksum_mismatch"}
"""What the pipeline calls what goes wrong here."""

ODD_LADDER = (Rung(162, 92, 120_000),)
ODD_ARGUMENT = "w=162"
"""How ffmpeg is told to make it, and nothing that any other task wants."""


def ask_with_trouble(site: Site, client: Client, stage: str) -> Asked:
    """Think of a task, and see to it that this operation fails for it until `end_trouble`."""
    asked = client.ask(ODD_LADDER if stage == TRANSCODE else LADDER)
    match stage:
        case "pull":  # every byte that the store sends of the video may be wrong
            site.spoilers.add(stage, lambda e: e.method == "GET" and asked.key in e.target)
        case "push":  # and every byte that it gets of the outputs
            outputs = f"tasks/{asked.task_id}/"
            site.spoilers.add(stage, lambda e: e.method == "PUT" and outputs in e.target)
        case "transcode":
            site.ffmpeg.break_for(ODD_ARGUMENT)
    return asked


def end_trouble(site: Site, stage: str) -> None:
    """The operation works again."""
    if stage == TRANSCODE:
        site.ffmpeg.repair()
    else:
        site.spoilers.remove(stage)
