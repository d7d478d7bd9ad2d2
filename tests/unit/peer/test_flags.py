from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from peer import config, flags
from peer.errors import ConfigError


@click.command()
@flags.peer_options
def program(config_file: Path | None, assignments: tuple[str, ...], **given: Any) -> None:
    """A program with a peer's flags, which prints what it was told."""
    try:
        settings = config.load(
            flags.settings(given), assignments=assignments, file=config_file, environment={}
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{settings.peer} {settings.gossip} {settings.ledger.url} {settings.retry.base_s}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "one"], "name='one'"),
        (["--data-dir", "/d"], "data_dir=PosixPath('/d')"),
        (["--slots", "3"], "slots=3"),
        (["--stop-grace-s", "1.5"], "stop_grace_s=1.5"),
        (["--log-level", "debug"], "log_level='debug'"),
        (["--log-format", "json"], "log_format='json'"),
        (["--join", "a", "--join", "b:7000"], "join=('a', 'b:7000')"),
        (["--listen", "127.0.0.1:0"], "listen='127.0.0.1:0'"),
        (["--advertise", "192.0.2.1"], "advertise='192.0.2.1'"),
        (["--ledger-url", "postgresql://h/d"], ") postgresql://h/d "),
        (["--set", "retry.base_s=7", "--set", "peer.slots=2"], " 7.0\n"),
    ],
)
def test_every_flag_reaches_its_setting(tmp_path: Path, arguments: list[str], said: str) -> None:
    """What a person types arrives in the configuration, under the name that is meant."""
    file = tmp_path / "empty.toml"
    file.touch()
    result = CliRunner().invoke(program, [*arguments, "--config", str(file)])
    assert result.exit_code == 0, result.output
    assert said in result.output


def test_an_error_names_the_flag_as_it_was_typed(tmp_path: Path) -> None:
    """The sentence speaks of `--stop-grace-s`, not of a path in a configuration."""
    file = tmp_path / "empty.toml"
    file.touch()
    result = CliRunner().invoke(program, ["--stop-grace-s", "soon", "--config", str(file)])
    assert result.exit_code == 2
    assert "option --stop-grace-s: expected a number of at least 0, got 'soon'" in result.stderr


def test_a_dry_run_of_nothing_names_the_flag(tmp_path: Path) -> None:
    """A flag without a value, and one that would do nothing where nothing scales."""
    file = tmp_path / "empty.toml"
    file.touch()
    result = CliRunner().invoke(program, ["--dry-run", "--config", str(file)])
    assert result.exit_code == 2
    assert "scaling.dry_run would do nothing" in result.stderr
    assert "(set by option --dry-run)" in result.stderr
    local = ["--set", "scaling.orchestrator=local"]
    result = CliRunner().invoke(program, ["--dry-run", *local, "--config", str(file)])
    assert result.exit_code == 0, result.output
