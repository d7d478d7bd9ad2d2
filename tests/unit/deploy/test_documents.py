"""What the documents of deploy/ name exists: commands, options, variables, messages, files.

A document that is wrong at three in the morning is worse than none. So whatever has a name that the
product could change is looked for here in the product itself.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from peer import config, options
from peer.cli import main
from peer.config import Config

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text()
DOCUMENTS = sorted(
    [*DEPLOY.glob("*.md"), *DEPLOY.glob("*/README.md"), *DEPLOY.glob("*.yml"), DEPLOY / "peerctl"]
)
OF_THE_STACK = re.compile(r"\$\{(GRAPEVINE_[A-Z_]+):-")
VARIABLE = re.compile(r"\bGRAPEVINE_[A-Z0-9_]*[A-Z0-9]\b(?!_?…)")
FOR_COMMANDS = {
    "GRAPEVINE_NODE_NAME", "GRAPEVINE_CLUSTER", "GRAPEVINE_JOIN_TOKEN", "GRAPEVINE_JOIN_ADDRESSES"
}  # fmt: skip
"""What the providers' commands are given; no settings."""

PLAIN = re.compile(r"[.,;:)]+$")
ROWS = re.compile(r"^\| (?!what one sees|---)(.*?) \| .* \| .* \|$", re.MULTILINE)


def variables() -> set[str]:
    """All that may be set: of a peer, and what the two files of services ask for."""
    found = {config.CONFIG_VARIABLE, *FOR_COMMANDS, "GRAPEVINE_SECRETS"}
    for option in options.options_of(Config):
        found.add(option.variable(config.PREFIX))
        if option.secret:
            found.add(f"{option.variable(config.PREFIX)}_FILE")
    for name in ("stack.yml", "compose.yml"):
        found |= set(OF_THE_STACK.findall((DEPLOY / name).read_text()))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_variable_can_be_set(path: Path) -> None:
    """No document and no file of services names one that nobody reads."""
    assert set(VARIABLE.findall(path.read_text())) <= variables()


def spoken(text: str) -> Iterator[list[str]]:
    """The words after each `peerctl` in code, up to the end of that command."""
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^(?: {4}|# {2,})(.*)$", text, re.M)
    code += [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()
    ]
    for line in code:
        for said in re.findall(
            r"(?:^|[\s/(&])peerctl ([a-z-][^|<>&;()`#]*)", line.partition("   #")[0]
        ):
            yield shlex.split(said.strip(), posix=True) if "'" not in said else said.split()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_command_exists(path: Path) -> None:
    """Each `peerctl …` is a command with these options, and has no arguments too many."""
    for words in spoken(path.read_text()):
        command: click.Command = main
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.commands.get(PLAIN.sub("", rest[0]))
            if found is None:
                assert command is not main, f"peerctl {' '.join(words)}"
                break
            command = found
            rest.pop(0)
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        for word in rest:
            if word.startswith("-") and word != "-":
                assert PLAIN.sub("", word.partition("=")[0]) in known, f"peerctl {' '.join(words)}"


@cache
def sentences() -> str:
    """Every text of the product, with a mark where a value is filled in."""
    found = []
    for room in ("gossip", "membership", "pipeline", "scaling", "peer"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    found.append("".join(
                        str(part.value) if isinstance(part, ast.Constant) else "\0"
                        for part in node.values
                    ))  # fmt: skip
    return "\n".join([*found, (DEPLOY / "peerctl").read_text().replace("$stack", "grapevine")])


def symptoms() -> list[str]:
    """What the tables of troubles quote from the product."""
    section = README.partition("## When something is wrong")[2].partition("\n## ")[0]
    return [quoted for row in ROWS.findall(section) for quoted in re.findall(r"`([^`]+)`", row)
            if not quoted.startswith(("docker", "deploy/peerctl", "peerctl"))]  # fmt: skip


def test_there_are_enough_troubles() -> None:
    """At least fifteen, each with a reason and something to type."""
    section = README.partition("## When something is wrong")[2].partition("\n## ")[0]
    assert len(ROWS.findall(section)) >= 15


@pytest.mark.parametrize("quoted", symptoms())
def test_every_symptom_is_what_the_product_says(quoted: str) -> None:
    """Word for word, but where a name or a number is left out."""
    for piece in quoted.split("…"):
        assert piece.strip(" ;:,") in sentences(), piece


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", README, re.S))
def test_every_example_of_settings_is_understood(block: str, tmp_path: Path) -> None:
    """As the seed would read it, with what the stack sets."""
    secret = tmp_path / "ec2"
    secret.write_text("secret")
    file = tmp_path / "nodes.toml"
    file.write_text(block.replace("/run/secrets/ec2", str(secret)))
    found = config.load(file=file, environment=seed_variables(tmp_path))
    assert found.scaling.provider.kind != "standby"
    assert found.scaling.provider_config.makes_nodes


@pytest.mark.parametrize(
    "block", [one for one in re.findall(r"```yaml\n(.*?)```", README, re.S) if "services:" in one]
)
def test_every_example_of_services_is_understood(block: str, tmp_path: Path) -> None:
    """It is laid over the stack's services, sets what can be set, and mounts what it declares."""
    document = yaml.safe_load(block)
    stack = yaml.safe_load(re.sub(OF_THE_STACK.pattern + r"([^}]*)\}", r"\2",
                                  (DEPLOY / "stack.yml").read_text()))  # fmt: skip
    assert set(document["services"]) <= set(stack["services"])
    mounted = set()
    for name, service in document["services"].items():
        given = seed_variables(tmp_path) | service.get("environment", {})
        given.pop(config.CONFIG_VARIABLE, None)
        config.load(environment=given)
        mounted |= {each["source"] for each in service.get("configs", ())}
        if command := service.get("command"):
            plain = [word for word in command if word != "--joins"]
            assert plain == stack["services"][name]["command"]
    assert mounted == set(document.get("configs", {}))


def seed_variables(tmp_path: Path) -> dict[str, str]:
    """The seed's, but for those that name files."""
    text = re.sub(OF_THE_STACK.pattern + r"([^}]*)\}", r"\2", (DEPLOY / "stack.yml").read_text())
    given = yaml.safe_load(text)["services"]["seed"]["environment"]
    plain = {k: v for k, v in given.items() if not k.endswith("_FILE") and "{{" not in v}
    return plain | {"GRAPEVINE_PEER_DATA_DIR": str(tmp_path), "HOME": str(tmp_path)}


@pytest.mark.parametrize("path", [one for one in DOCUMENTS if one.suffix == ".md"],
                         ids=lambda path: str(path.relative_to(DEPLOY)))  # fmt: skip
def test_every_link_leads_somewhere(path: Path) -> None:
    """To a file of the tree, and to a heading of it where one is named."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        place, _, heading = target.partition("#")
        file = (path.parent / place).resolve() if place else path
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, target
