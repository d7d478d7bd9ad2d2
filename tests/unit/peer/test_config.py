from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from peer import config
from peer.config import Config, load
from peer.errors import ConfigError
from peer.machine import default_name

Load = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """Load from a TOML text, an environment and flags, and from nothing of this machine."""

    def read(
        toml: str = "",
        environment: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
        assignments: tuple[str, ...] = (),
    ) -> Config:
        file = tmp_path / "grapevine.toml"
        file.write_text(toml)
        return load(flags, assignments=assignments, file=file, environment=environment or {})

    return read


FLAG = {"peer.slots": 5}
ASSIGNED = ("peer.slots=4",)
VARIABLE = {"GRAPEVINE_PEER_SLOTS": "3"}
FILE = "[peer]\nslots = 2\n"


@pytest.mark.parametrize(
    ("given", "slots"),
    [
        ({"toml": FILE, "environment": VARIABLE, "assignments": ASSIGNED, "flags": FLAG}, 5),
        ({"toml": FILE, "environment": VARIABLE, "assignments": ASSIGNED}, 4),
        ({"toml": FILE, "environment": VARIABLE}, 3),
        ({"toml": FILE}, 2),
        ({"toml": FILE, "flags": {"peer.slots": None}}, 2),
        ({"toml": FILE, "environment": {"GRAPEVINE_PEER_SLOTS": ""}}, 2),
        ({"flags": FLAG, "toml": ""}, 5),
    ],
)
def test_precedence(read: Load, given: dict[str, Any], slots: int) -> None:
    """Flags beat `--set`, that beats the environment, that the file; what is empty is not given."""
    assert read(**given).peer.slots == slots


def test_defaults_need_nothing(read: Load) -> None:
    """Without any setting there is a complete configuration, with the embedded ledger."""
    settings = read()
    assert settings.ledger.url is None
    assert settings.peer.slots >= 1
    assert settings.retry.attempts_max == 4
    assert settings.peer.node == default_name()
    assert settings.peer.container is None
    assert settings.store_directory == settings.peer.data_dir / "store"
    assert settings.transcode.preset == "veryfast"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("peer.stop_grace_s=0", "peer.stop_grace_s", 0.0),
        ("peer.stop_grace_s=2.5", "peer.stop_grace_s", 2.5),
        ("peer.log_format=json", "peer.log_format", "json"),
        ("peer.container=x1y2z3", "peer.container", "x1y2z3"),
        ("peer.node=worker-3.example.org", "peer.node", "worker-3.example.org"),
        ("peer.park_s=90", "peer.park_s", 90.0),
        ("peer.name=a.b-c_1", "peer.name", "a.b-c_1"),
        ("ledger.url=postgresql://host/db", "ledger.url", "postgresql://host/db"),
        ("ledger.postgres=/opt/pg/bin", "ledger.postgres", Path("/opt/pg/bin")),
        ("transcode.encoder_threads=2", "transcode.encoder_threads", 2),
        ("transcode.limits.streams_max=3", "transcode.limits.streams_max", 3),
        ("retry.base_s=1", "retry.base_s", 1.0),
    ],
)
def test_texts_become_values(read: Load, text: str, path: str, value: object) -> None:
    """A text, from a flag or a variable, becomes the type of its setting."""
    settings: Any = read(assignments=(text,))
    for name in path.split("."):
        settings = getattr(settings, name)
    assert settings == value
    assert type(settings) is type(value) or isinstance(settings, Path)


KINDS = (
    "peer, ledger, queue, store, store.s3, transcode, transcode.limits, retry, notify, gossip, "
    "membership"
)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"environment": {"GRAPEVINE_PEER_SLOTS": "two"}},
            "environment GRAPEVINE_PEER_SLOTS: expected a whole number from 0 to 1024, got 'two'",
        ),
        (
            {"flags": {"peer.slots": "-1"}},
            "option --slots: expected a whole number from 0 to 1024, got '-1'",
        ),
        (
            {"flags": {"ledger.lease_s": "1"}},
            "option --ledger-lease-s: expected a number of at least 3, got '1'",
        ),
        (
            {"toml": "[peer]\nslots = 'two'"},
            "{file}: peer.slots: expected a whole number from 0 to 1024, got 'two'",
        ),
        (
            {"toml": "[peer]\nslots = true"},
            "{file}: peer.slots: expected a whole number from 0 to 1024, got True",
        ),
        (
            {"toml": "[peer]\nname = 7"},
            "{file}: peer.name: expected a name of at most 63 letters, digits, dots, dashes and "
            "underscores, got 7",
        ),
        (
            {"environment": {"GRAPEVINE_PEER_CONTAINER": "two words"}},
            "environment GRAPEVINE_PEER_CONTAINER: expected a text of at most 64 characters, "
            "without blanks, got 'two words'",
        ),
        (
            {"assignments": ("peer.log_format=xml",)},
            "option --set peer.log_format: expected console or json, got 'xml'",
        ),
        (
            {"assignments": ("peer.stop_grace_s=nan",)},
            "option --set peer.stop_grace_s: expected a number of at least 0, got 'nan'",
        ),
        (
            {"assignments": ("peer.stop_grace_s=inf",)},
            "option --set peer.stop_grace_s: expected a number of at least 0, got 'inf'",
        ),
        (
            {"assignments": ("peer.metrics_listen=http://x:1",)},
            "peer.metrics_listen: 'http://x:1' is no address: it is a URL; leave out what comes "
            "before and after the host and port; write host, host:port or [IPv6]:port, such as "
            "tasks.peer or 10.0.0.5:7946 (set by option --set peer.metrics_listen)",
        ),
        (
            {"environment": {"GRAPEVINE_PEER_SLOT": "2"}},
            "environment GRAPEVINE_PEER_SLOT: there is no such setting; "
            "did you mean 'GRAPEVINE_PEER_SLOTS'?",
        ),
        (
            {"environment": {"GRAPEVINE_PEER_SLOTS_FILE": "2"}},
            "environment GRAPEVINE_PEER_SLOTS_FILE: there is no such setting; "
            "did you mean 'GRAPEVINE_PEER_SLOTS'?",
        ),
        (
            {"toml": "[peer]\nslot = 2"},
            "{file}: there is no setting 'peer.slot'; did you mean 'peer.slots'?",
        ),
        (
            {"toml": "[per]\nslots = 2"},
            "{file}: there is no section 'per'; did you mean 'peer'?",
        ),
        ({"toml": "peer = 2"}, "{file}: peer is a section; write it as [peer]"),
        (
            {"toml": "[rabbitmq]\nurl = 'amqp://x'"},
            "{file}: there is no section 'rabbitmq'",
        ),
        (
            {"toml": "[store.s4]\nbucket = 'x'"},
            "{file}: there is no section 'store.s4'; did you mean 'store.s3'?",
        ),
        (
            {"environment": {"GRAPEVINE_STORE_S3_ENDPONT": "https://s3"}},
            "environment GRAPEVINE_STORE_S3_ENDPONT: there is no such setting; "
            "did you mean 'GRAPEVINE_STORE_S3_ENDPOINT'?",
        ),
        (
            {"toml": "[store]\ndirectory = '/s'\n[store.s3]\nendpoint = 'https://s3'"},
            "store.directory and store.s3.endpoint exclude each other; leave one out "
            "(set by {file}: store.directory, {file}: store.s3.endpoint)",
        ),
        (
            {"toml": "[store.s3]\nbucket = 'videos'"},
            "[store.s3] has no endpoint, so the store would be a directory; add the endpoint, for "
            "example https://s3.eu-central-1.amazonaws.com (set by {file}: store.s3.bucket)",
        ),
        (
            {"assignments": ("peer.handover_s=1801",)},
            "option --set peer.handover_s: expected a number from 1 to 1500, got '1801'",
        ),
        (
            {"assignments": ("retry.bas_s=3",)},
            "there is no setting 'retry.bas_s'; did you mean 'retry.base_s'?",
        ),
        ({"assignments": ("retry",)}, "option --set retry: write it as section.key=value"),
        (
            {"assignments": ("retry.base_s=9", "retry.max_s=3")},
            "retry: base_s must be above 0 and at most max_s "
            "(set by option --set retry.base_s, option --set retry.max_s)",
        ),
    ],
)
def test_mistakes_are_said(
    read: Load, tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    """What is wrong is said in one sentence: where it came from, what was expected, the nearest."""
    with pytest.raises(ConfigError) as caught:
        read(**given)
    assert str(caught.value) == sentence.replace("{file}", str(tmp_path / "grapevine.toml"))


def test_file_must_be_toml(tmp_path: Path) -> None:
    """A file that was named must exist and be TOML; the sentence names it."""
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.toml: No such file"):
        load(file=missing, environment={})
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.toml"):
        load(environment={config.CONFIG_VARIABLE: str(missing)})
    missing.write_bytes(b"\xff\xfe[")
    with pytest.raises(ConfigError, match=r"missing\.toml is not TOML"):
        load(file=missing, environment={})


def test_variable_names_the_file(tmp_path: Path) -> None:
    """GRAPEVINE_CONFIG names the file where no flag does."""
    file = tmp_path / "other.toml"
    file.write_text("[peer]\nname = 'from-the-file'")
    assert load(environment={"GRAPEVINE_CONFIG": str(file)}).peer.name == "from-the-file"


def test_secret_from_file(read: Load, tmp_path: Path) -> None:
    """`…_FILE` names a file with a secret; both ways at once are a contradiction."""
    secret = tmp_path / "url"
    secret.write_text("postgresql://user:word@host/db\n")
    by_file = {"GRAPEVINE_LEDGER_URL_FILE": str(secret)}
    assert read(environment=by_file).ledger.url == "postgresql://user:word@host/db"
    both = by_file | {"GRAPEVINE_LEDGER_URL": "postgresql://other"}
    with pytest.raises(ConfigError, match="are both set"):
        read(environment=both)
    secret.unlink()
    missing = r"GRAPEVINE_LEDGER_URL_FILE: cannot read \S+: No such file or directory$"
    with pytest.raises(ConfigError, match=missing):
        read(environment=by_file)


KEY = "kQeUzr3mG4fY6pYc0J4q7l8Xw1v9bT2sN5aH6dE3fGo="


def test_a_secret_setting_has_a_file_everywhere(read: Load, tmp_path: Path) -> None:
    """Also in a configuration file and with `--set`; a relative one is relative as other paths are.

    The stronger layer wins whichever form it takes, and two forms in one layer contradict.
    """
    (tmp_path / "cluster.key").write_text(f"{KEY}\n")
    in_file = "[gossip]\nkey_file = 'cluster.key'\n"
    assert read(in_file).gossip.key == KEY
    assert read(assignments=(f"gossip.key_file={tmp_path}/cluster.key",)).gossip.key == KEY
    other = "00" * 32
    assert read(in_file, environment={"GRAPEVINE_GOSSIP_KEY": other}).gossip.key == other
    with pytest.raises(ConfigError, match="say the same; leave one out"):
        read(f"{in_file}key = '{other}'\n")
    with pytest.raises(ConfigError, match="key_file: expected a path, got 3"):
        read("[gossip]\nkey_file = 3\n")
    with pytest.raises(ConfigError, match=r"there is no setting 'peer\.name_file'"):
        read("[peer]\nname_file = 'x'\n")


@pytest.mark.parametrize(
    "given",
    [
        {"toml": "[gossip]\njoin = ['a', 'b:7000']\n"},
        {"toml": "[gossip]\njoin = 'a, b:7000'\n"},
        {"environment": {"GRAPEVINE_GOSSIP_JOIN": "a,b:7000"}},
        {"assignments": ("gossip.join=a b:7000",)},
        {"flags": {"gossip.join": ("a", "b:7000")}},
    ],
)
def test_a_list_is_a_list_or_a_text_with_commas(read: Load, given: dict[str, Any]) -> None:
    """Wherever it is set: a TOML list, a repeated flag, or one text."""
    assert read(**given).gossip.join == ("a", "b:7000")


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("join = ['a:b:c']", "write an IPv6 address in brackets"),
        ("join = ['https://a']", "it is a URL"),
        ("join = ['a', 3]", "expected a list of texts, got"),
        ("listen = 'a:99999'", "is no port"),
        ("advertise = 'a:0'", "port 0 is nowhere"),
        ("key = 'short'", "a key is 32 bytes"),
        (f"key = '{KEY}'\nplaintext = true", "exclude each other"),
        ("cluster = ''", "a text of 1 to 64 characters"),
        ("profile = 'wan'", "expected lan or quiet, got 'wan'"),
    ],
)
def test_what_gossip_cannot_use_is_said_before_it_starts(
    read: Load, toml: str, sentence: str
) -> None:
    """An address, a key or a contradiction is found when the settings are read; no key is shown."""
    with pytest.raises(ConfigError, match=sentence) as caught:
        read(f"[gossip]\n{toml}\n")
    assert KEY not in str(caught.value)
    assert "short" not in str(caught.value)


def test_secrets_are_not_shown(read: Load) -> None:
    """A password stands neither in an error nor in what a log might print of the settings."""
    url = "postgresql://user:pass-word@host/db"
    assert "pass-word" not in repr(read(environment={"GRAPEVINE_LEDGER_URL": url}))
    with pytest.raises(ConfigError) as caught:
        read(environment={"GRAPEVINE_LEDGER_URL": "mysql://user:pass-word@host/db"})
    assert str(caught.value) == (
        "ledger.url: expected a postgresql:// URL (set by environment GRAPEVINE_LEDGER_URL)"
    )
    with pytest.raises(ConfigError, match="got something else"):
        read(toml="[ledger]\nurl = ['pass-word']")


SERVICES = {
    "GRAPEVINE_QUEUE_URL": "amqps://user:pass-word@rabbit-1,rabbit-2/video",
    "GRAPEVINE_STORE_S3_ENDPOINT": "https://s3.example.com",
    "GRAPEVINE_STORE_S3_ACCESS_KEY": "an-access-key",
    "GRAPEVINE_STORE_S3_SECRET_KEY": "pass-word",
    "GRAPEVINE_NOTIFY_URLS": "mailto://me:pass-word@mail?to=a@b.example,c@b.example slack://pass-word",
}


def test_services_come_from_the_environment(read: Load) -> None:
    """Each by its section and its name; no password of theirs is in what a log might print."""
    settings = read(environment=SERVICES)
    assert settings.queue.url == SERVICES["GRAPEVINE_QUEUE_URL"]
    assert settings.store.s3.endpoint == "https://s3.example.com"
    assert settings.notify.urls == (
        "mailto://me:pass-word@mail?to=a@b.example,c@b.example",
        "slack://pass-word",
    )
    assert "pass-word" not in repr(settings)
    assert "an-access-key" not in repr(settings)


@pytest.mark.parametrize(
    "given",
    [
        SERVICES | {"GRAPEVINE_QUEUE_URL": "http://user:pass-word@rabbit"},
        SERVICES | {"GRAPEVINE_QUEUE_PASSWORD": "pass-word"},
        SERVICES | {"GRAPEVINE_STORE_DIRECTORY": "/store"},
        SERVICES | {"GRAPEVINE_STORE_S3_BUCKET": "No Bucket"},
        SERVICES | {"GRAPEVINE_NOTIFY_INTERVAL_S": "-1"},
    ],
)
def test_no_mistake_shows_a_password(read: Load, given: Mapping[str, str]) -> None:
    """What is wrong beside a secret, or with one, is said without it."""
    with pytest.raises(ConfigError) as caught:
        read(environment=given)
    assert "pass-word" not in str(caught.value)
    assert "an-access-key" not in str(caught.value)


def test_addresses_of_administrators_can_be_in_a_file(read: Load, tmp_path: Path) -> None:
    """One a line, since each holds a password; commas inside of one stay."""
    (tmp_path / "urls").write_text("mailto://me:word@mail?to=a,b\nslack://token/\n")
    assert read("[notify]\nurls_file = 'urls'").notify.urls == (
        "mailto://me:word@mail?to=a,b",
        "slack://token/",
    )


README = Path(__file__).parents[3] / "README.md"
SECRET_FILES = {
    "ledger-url": "postgresql://grapevine_peer:word@db-1,db-2/grapevine",
    "queue-password": "word",
    "s3-credentials": "[default]\naws_access_key_id = a\naws_secret_access_key = b\n",
    "cluster.key": KEY,
    "administrators": "mailto://me:word@mail?to=a@b.example\n",
    "ca.pem": "",
}


def test_the_examples_in_the_readme_are_right(read: Load, tmp_path: Path) -> None:
    """Every key of them is a setting, what they name is read, and one file may have all."""
    examples = re.findall(r"^```toml\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    toml = "\n".join(examples)
    for name, text in SECRET_FILES.items():
        (tmp_path / name).write_text(text)
    settings = read(toml.replace("/etc/grapevine/", f"{tmp_path}/"))
    assert settings.ledger.url == SECRET_FILES["ledger-url"]
    assert settings.queue.url is not None
    assert settings.queue.password == "word"
    assert settings.store.s3.endpoint is not None
    assert settings.gossip.key == KEY
    assert len(settings.notify.urls) == 1
    assert settings.scaling.orchestrator == "swarm"
    assert settings.scaling.swarm_config.constraint == "node.labels.grapevine.pool==film"


def test_relative_paths(read: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in a file is relative to the file, one in a flag to the working directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert read("[peer]\ndata_dir = 'data'").peer.data_dir == tmp_path / "data"
    assert read(flags={"peer.data_dir": "data"}).peer.data_dir == elsewhere / "data"
    assert read(assignments=("peer.data_dir=data",)).peer.data_dir == elsewhere / "data"
    assert read(flags={"peer.data_dir": "~"}).peer.data_dir == Path.home()


def test_other_variables_are_left_alone(read: Load) -> None:
    """Only names that begin with GRAPEVINE_ are ours."""
    assert read(environment={"GRAPE": "1", "PEER_SLOTS": "9", "XGRAPEVINE_X": "1"}).peer.slots >= 1


@pytest.mark.parametrize("lease_s", ["3", "4.5", "15", "60", "3600"])
def test_no_call_outlasts_the_lease(read: Load, lease_s: str) -> None:
    """Whatever the lease is: a call that hangs is cut while there is time to renew on another."""
    ledger = read(flags={"ledger.lease_s": lease_s}).ledger
    assert 0 < ledger.statement_timeout_s <= ledger.transaction_timeout_s
    assert ledger.transaction_timeout_s + ledger.lease_s / 5 < ledger.lease_s
    assert 2 <= ledger.connect_timeout_s <= max(2, ledger.lease_s / 3)


SWARM = '[scaling]\norchestrator = "swarm"\npool = "film"\ncontainers_per_node = 7\n'


def test_what_is_the_same_everywhere_is_said_once(read: Load) -> None:
    """The pool's name and the containers of a node hold for policy, Swarm and provider alike."""
    scaling = read(SWARM).scaling
    assert (scaling.policy.pool, scaling.policy.containers_per_node) == ("film", 7)
    assert (scaling.swarm_config.pool, scaling.swarm_config.containers_per_node) == ("film", 7)
    assert scaling.provider_config.pool == "film"


@pytest.mark.parametrize("path", ["swarm.pool", "swarm.containers_per_node", "provider.pool"])
def test_what_is_derived_is_no_setting(read: Load, path: str) -> None:
    """Two places for one truth would contradict each other."""
    section, name = path.split(".")
    with pytest.raises(ConfigError, match=f"no setting 'scaling.{path}'"):
        read(f"{SWARM}[scaling.{section}]\n{name} = 3\n")


def test_no_secret_is_recorded_with_decisions(read: Load) -> None:
    """What decisions are made of has the policy's settings, and nothing of providers."""
    provider = '[scaling.provider]\nkind = "libcloud"\njoin_token = "SWMTKN-1-secret"\n'
    cloud = '[scaling.provider.libcloud]\nprovider = "ec2"\nsize = "s"\nimage = "i"\nkey = "hush"\n'
    scaling = read(SWARM + provider + cloud).scaling
    assert scaling.provider_config.join_token == "SWMTKN-1-secret"
    recorded = repr(scaling.policy) + repr(vars(type(scaling.policy)).keys())
    assert type(scaling.policy).__name__ == "ScalingConfig"
    assert "secret" not in recorded
    assert "hush" not in recorded


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ('[scaling.swarm]\nservice = "x"\n', 'write orchestrator = "swarm"'),
        ("[scaling]\ndry_run = true\n", "scaling.dry_run would do nothing"),
        (
            '[scaling.provider]\nkind = "exec"\n[scaling.provider.exec]\n'
            'create = ["/bin/n", "{name}"]\nlist = ["/bin/n"]\ndestroy = ["/bin/n", "{name}"]\n',
            "they would do nothing",
        ),
        (SWARM + "queue_high = 1\nqueue_low = 1\n", "less than twice"),
        (SWARM + "nodes_min = 5\nnodes_max = 2\n", "nodes_min is larger"),
        (
            SWARM.replace("film", "f" * 47)
            + '[scaling.swarm]\nservice = "a_long_stack_with_a_long_service"\n'
            '[scaling.provider]\nkind = "exec"\n[scaling.provider.exec]\n'
            'create = ["/bin/n", "{name}"]\nlist = ["/bin/n"]\ndestroy = ["/bin/n", "{name}"]\n',
            "too long together",
        ),
    ],
    ids=["a Swarm without one", "a dry run of nothing", "a provider", "range", "limits", "names"],
)
def test_scaling_that_cannot_work_is_refused(read: Load, toml: str, complaint: str) -> None:
    """With the sentence that says what to do."""
    with pytest.raises(ConfigError, match=complaint):
        read(toml)
