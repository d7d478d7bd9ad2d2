"""The settings of providers: through the same reader that the peer's configuration goes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from peer import options
from peer.errors import ConfigError
from scaling.providers.config import ExecConfig, LibcloudConfig, ProviderConfig

TOKEN = "SWMTKN-1-abc-def"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaling:
    provider: ProviderConfig = field(default_factory=ProviderConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    scaling: _Scaling


def _load(tmp_path: Path, toml: str, environment: dict[str, str] | None = None) -> ProviderConfig:
    file = tmp_path / "config.toml"
    file.write_text(toml)
    known = {option.path: option for option in options.options_of(_Config)}
    layers = [
        options.from_environment(known, environment or {}, "GRAPEVINE_"),
        options.from_file(known, file),
    ]
    config: _Config = options.build(_Config, {}, layers)
    return config.scaling.provider


EXEC = """
[scaling.provider]
kind = "exec"
cluster = "film"

[scaling.provider.exec]
create = ["/usr/local/bin/nodes", "create", "{name}"]
list = ["/usr/local/bin/nodes", "list"]
destroy = ["/usr/local/bin/nodes", "destroy", "{name}"]
pass_environment = ["HOME", "AWS_PROFILE"]
create_timeout_s = 600
"""

CLOUD = """
[scaling.provider]
kind = "libcloud"
join_token_file = "token"
join_addresses = ["10.0.0.1:2377", "[fd00::1]:2377"]

[scaling.provider.libcloud]
provider = "openstack"
key = "user"
secret_file = "secret"
region = "RegionOne"
size = "m1.large"
image = "9f0a"
user_data_file = "user-data"

[scaling.provider.libcloud.driver_arguments]
ex_force_auth_url = "https://cloud.example.org:5000"
ex_tenant_name = "film"

[scaling.provider.libcloud.node_arguments]
ex_keyname = "ops"
ex_config_drive = true
"""


def test_nothing_set_is_standby() -> None:
    """Without settings nobody is ordered to make anything."""
    config = ProviderConfig()
    assert (config.kind, config.makes_nodes) == ("standby", False)


def test_commands_are_read(tmp_path: Path) -> None:
    """Lists stay lists; the time a call may take decides how long its effects are waited for."""
    config = _load(tmp_path, EXEC)
    assert config.exec.create == ("/usr/local/bin/nodes", "create", "{name}")
    assert config.exec.pass_environment == ("HOME", "AWS_PROFILE")
    assert config.makes_nodes
    assert config.settle_s == 30 + 600 + 30 + 30


def test_a_cloud_is_read(tmp_path: Path) -> None:
    """Secrets come from files, tables keep their types, paths are those beside the file."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "secret").write_text("hush\n")
    config = _load(tmp_path, CLOUD)
    assert config.join_token == TOKEN
    assert config.libcloud.secret == "hush"
    assert config.libcloud.user_data_file == tmp_path / "user-data"
    assert config.libcloud.node_arguments == {"ex_keyname": "ops", "ex_config_drive": True}
    assert config.libcloud.driver_arguments["ex_tenant_name"] == "film"
    assert "hush" not in repr(config)
    assert TOKEN not in repr(config)


def test_the_environment_sets_secrets(tmp_path: Path) -> None:
    """A container gets its secrets as files that variables name."""
    (tmp_path / "key").write_text("from a file")
    toml = CLOUD.replace('join_token_file = "token"\n', "").replace('secret_file = "secret"\n', "")
    environment = {
        "GRAPEVINE_SCALING_PROVIDER_LIBCLOUD_SECRET_FILE": str(tmp_path / "key"),
        "GRAPEVINE_SCALING_PROVIDER_JOIN_TOKEN": TOKEN,
    }
    config = _load(tmp_path, toml, environment)
    assert config.libcloud.secret == "from a file"
    assert config.join_token == TOKEN


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('cluster = "film"', 'cluster = "Film!"', "a name of at most 32 lower-case letters"),
        ('kind = "exec"', 'kind = "magic"', "standby or exec or libcloud"),
        ('kind = "exec"', "", r"\[scaling.provider.exec\] has settings, and .*kind is 'standby'"),
        ("create_timeout_s = 600", "create_timeout_s = 0", "create_timeout_s"),
        ("create_timeout_s", "create_time_s", "did you mean"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """What is wrong is said in a sentence that names the setting."""
    with pytest.raises(ConfigError, match=complaint):
        _load(tmp_path, EXEC.replace(old, new))


GOOD: dict[str, tuple[str, ...]] = {
    "create": ("make", "{name}"),
    "list": ("show",),
    "destroy": ("end", "{name}"),
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"create": ()}, "create is missing"),
        ({"list": ("bin/show",)}, "as an absolute path"),
        ({"create": ("make", "{name}", "--token={join_token}")}, "GRAPEVINE_JOIN_TOKEN"),
        ({"create": ("make",)}, r"create has no \{name\}"),
        ({"destroy": ("end", "--all")}, r"destroy has no \{name\}"),
    ],
)
def test_commands_that_cannot_work_are_refused(change: dict[str, Any], complaint: str) -> None:
    """Before the first machine is wanted, not when it is."""
    with pytest.raises(ValueError, match=complaint):
        ProviderConfig(kind="exec", exec=ExecConfig(**{**GOOD, **change}))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"provider": ""}, "provider is missing"),
        ({"size": ""}, "size is missing"),
        ({"image": ""}, "image is missing"),
        ({"call_timeout_s": 10.0}, "call_timeout_s is less"),
    ],
)
def test_clouds_that_cannot_work_are_refused(change: dict[str, Any], complaint: str) -> None:
    """The same for a cloud."""
    good = {"provider": "ec2", "size": "a", "image": "b"}
    with pytest.raises(ValueError, match=complaint):
        ProviderConfig(kind="libcloud", libcloud=LibcloudConfig(**{**good, **change}))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"join_token": "hunter2"}, "docker swarm join-token"),
        ({"join_addresses": ("10.0.0.1",)}, "must be host:port"),
        ({"join_addresses": ("a b:1",)}, "must be host:port"),
    ],
)
def test_ways_to_join_that_are_none_are_refused(change: dict[str, Any], complaint: str) -> None:
    """A token is never repeated in the complaint about it."""
    with pytest.raises(ValueError, match=complaint) as refused:
        ProviderConfig(**change)
    assert "hunter2" not in str(refused.value)
