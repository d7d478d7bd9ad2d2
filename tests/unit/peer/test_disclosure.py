"""What is secret stays here: settings as they are shown, texts that are searched for secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from peer import config
from peer.config import Config
from peer.disclosure import HIDDEN, Scrubber, disclosed, secrets_of, server_of
from peer.options import options_of

CANARY = "canary"
KEY = bytes(range(32))

SECRETS: dict[str, object] = {
    "ledger.url": f"postgresql://film:{CANARY}-ledger@db.example:5432/film?sslpassword={CANARY}-tls",
    "queue.url": "amqps://broker.example/film",
    "queue.user": "film",
    "queue.password": f"{CANARY}-queue",
    "gossip.key": KEY.hex(),
    "store.s3.endpoint": "https://s3.example",
    "store.s3.access_key": f"{CANARY}-access",
    "store.s3.secret_key": f"{CANARY}-secret",
    "store.s3.session_token": f"{CANARY}-session",
    "notify.urls": f"slack://{CANARY}A/{CANARY}B/{CANARY}C, mailto://ops:{CANARY}-mail@example.com",
    "scaling.orchestrator": "swarm",
    "scaling.provider.kind": "libcloud",
    "scaling.provider.join_token": f"SWMTKN-1-{CANARY}-join",
    "scaling.provider.libcloud.provider": "openstack",
    "scaling.provider.libcloud.key": f"{CANARY}-cloud-key",
    "scaling.provider.libcloud.secret": f"{CANARY}-cloud-secret",
    "scaling.provider.libcloud.size": "m1.large",
    "scaling.provider.libcloud.image": "debian-12",
    "scaling.provider.libcloud.driver_arguments": {"ex_force_auth_token": f"{CANARY}-driver"},
}


def settings(given: dict[str, object]) -> Config:
    return config.load(dict(given), file=Path("/dev/null"), environment={})


def test_every_secret_setting_is_among_those_that_are_tried() -> None:
    """A secret setting that is added later has to be added here, too."""
    assert {option.path for option in options_of(Config) if option.secret} <= SECRETS.keys()


def test_no_secret_is_shown() -> None:
    """Settings are shown with all that helps and nothing that opens a door; the server's place is
    said, and a library's own arguments by their names."""
    shown = disclosed(settings(SECRETS))
    text = json.dumps(shown)
    assert CANARY not in text
    assert KEY.hex() not in text
    assert shown["ledger.url"] == f"postgresql://{HIDDEN}@db.example:5432/film?{HIDDEN}"
    assert shown["queue.url"] == "amqps://broker.example/film"
    assert shown["store.s3.secret_key"] == HIDDEN
    assert shown["scaling.provider.libcloud.driver_arguments"] == {"ex_force_auth_token": HIDDEN}
    assert shown["peer.slots"] >= 1
    assert shown["ledger.lease_s"] == 15.0


def test_what_is_not_set_is_told_from_what_is_hidden() -> None:
    """Whoever reads it must see that a password is missing."""
    shown = disclosed(settings({}))
    assert shown["queue.password"] is None
    assert shown["gossip.key"] is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@a:1,b:2/db", "postgresql://***@a:1,b:2/db"),
        ("postgresql://[2001:db8::7]:5432/db", "postgresql://[2001:db8::7]:5432/db"),
        ("postgresql:///db?host=/run&password=x", "postgresql:///db?***"),
        ("amqp://host", "amqp://host"),
        # Not written as they must be: any piece may be one of the password.
        ("postgresql://u:p/w@host/db", HIDDEN),
        ("postgresql://u:p@w@host/db", HIDDEN),
        ("postgresql://u:p?w@host/db", HIDDEN),
        ("postgresql://u:p#w@host/db", HIDDEN),
        ("postgresql://u:password/db", HIDDEN),
        ("host=a password=b", HIDDEN),
    ],
)
def test_a_url_is_shown_as_far_as_it_is_certain(url: str, shown: str) -> None:
    """Where it leads, and never who goes there; in doubt nothing."""
    assert server_of(url) == shown


WRITTEN = [
    *(value for path, value in SECRETS.items() if CANARY in str(value) and isinstance(value, str)),
    f"connecting as film with {CANARY}-ledger",
    f"the broker refuses {CANARY}-queue",
    quote(f"{CANARY}-mail", safe=""),
    f"POST /services/{CANARY}A/{CANARY}B/{CANARY}C",
    f"tried {CANARY}B",
    f"driver said {CANARY}-driver",
    "key " + KEY.hex(),
    "key " + base64.b64encode(KEY).decode(),
    "key " + base64.urlsafe_b64encode(KEY).decode().rstrip("="),
    f"AWS says {CANARY}-environment",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_known_secret_is_found_wherever_it_is_written(text: str) -> None:
    """Whole, in pieces, encoded: and what is around it stays."""
    environment = {"AWS_SECRET_ACCESS_KEY": f"{CANARY}-environment"}
    scrubber = Scrubber(secrets_of(settings(SECRETS), environment))
    for written in (text, f"before {text} after"):
        found = scrubber.text(written)
        assert CANARY not in found
        assert KEY.hex() not in found
        assert base64.b64encode(KEY).decode().rstrip("=") not in found
        assert HIDDEN in found
    assert scrubber.text(f"before {text} after").startswith("before ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to postgresql://u:hunter2@db/x failed", "to postgresql://***@db/x failed"),
        ("host=db password=hunter2 user=x", "host=db password=*** user=x"),
        ("password = 'hunter 2' user", "password = *** user"),
        ('{"password": "hunter2", "a": 1}', '{"password": ***, "a": 1}'),
        (
            "docker swarm join --token SWMTKN-1-hunter2 a:2377",
            "docker swarm join --token *** a:2377",
        ),
        ("http://db.example:9000/film is away", "http://db.example:9000/film is away"),
        ("task 3f2a of user@host is done", "task 3f2a of user@host is done"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_though_nobody_knows_it(
    text: str, shown: str
) -> None:
    """Another peer's password in an error of a library; and what is none is left as it is."""
    assert Scrubber().text(text) == shown


def test_documents_keep_their_shape() -> None:
    """Texts are searched wherever they are, names too; numbers and the rest stay."""
    scrubber = Scrubber(["hunter2"])
    found = scrubber.document(
        {"a": ["x hunter2", 1, None, True], "hunter2": 2.5, "secret_key": "?", "token": 7}
    )
    assert found == {"a": ["x ***", 1, None, True], "***": 2.5, "secret_key": "?", "token": 7}


def test_a_field_that_is_named_like_a_secret_is_hidden() -> None:
    """By the end of its name, where it is a text."""
    found = Scrubber().document(
        {"session_token": "x", "PASSWORD": "y", "secret": "", "tokens": "z"}
    )
    assert found == {"session_token": HIDDEN, "PASSWORD": HIDDEN, "secret": "", "tokens": "z"}
