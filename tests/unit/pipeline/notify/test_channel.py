"""A message goes by apprise to a real mail server and a real web hook."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio

from pipeline.errors import NotSent
from pipeline.notify.channel import AppriseChannel
from tests.servers.smtp import SmtpServer
from tests.servers.webhook import WebHook

# apprise's own import, on the Python that still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

TITLE = "Grapevine: Käse <1>.mp4 was given up"
BODY = "Käse <1>.mp4 & co. was given up.\n\n.a line with a dot\n  *why*\n"
SECRET = "opensesame"


@pytest.fixture
def mail() -> Iterator[SmtpServer]:
    """A mail server."""
    with SmtpServer().running() as server:
        yield server


@pytest.fixture
def hook() -> Iterator[WebHook]:
    """A web hook."""
    with WebHook().running() as server:
        yield server


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that a process's log gets, at its most talkative. (pytest's own handler goes to loggers
    that keep their lines to themselves, too.)"""
    stream = io.StringIO()
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def mail_url(server: SmtpServer) -> str:
    return (
        f"mailto://127.0.0.1:{server.port}?from=peer@example.org&to=ops@example.org&mode=insecure"
    )


def hook_url(server: WebHook) -> str:
    return f"json://127.0.0.1:{server.server_port}/{SECRET}"


async def test_by_mail(mail: SmtpServer) -> None:
    """It arrives whole, as plain text, with a subject."""
    await AppriseChannel([mail_url(mail)]).send(TITLE, BODY)

    [received] = mail.mails
    assert received["Subject"] == TITLE
    assert received["To"] == "ops@example.org"
    plain = received.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().splitlines() == BODY.splitlines()


async def test_by_web_hook(hook: WebHook) -> None:
    """It arrives whole, at the path that is the hook's password."""
    await AppriseChannel([hook_url(hook)]).send(TITLE, BODY)

    [posted] = hook.posted
    assert posted.path == f"/{SECRET}"
    assert (posted.fields["title"], posted.fields["message"].strip()) == (TITLE, BODY.strip())
    assert posted.fields["type"] == "failure"


async def test_one_that_takes_it_is_enough(
    mail: SmtpServer, hook: WebHook, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one is a warning; sending all again would only fill the good one."""
    hook.status = 500
    channel = AppriseChannel([hook_url(hook), mail_url(mail)])
    await channel.send(TITLE, BODY)

    assert len(mail.mails) == len(hook.posted) == 1
    [said] = [record for record in caplog.records if record.name == "pipeline.notify.channel"]
    assert said.levelname == "WARNING"
    assert vars(said)["why"].startswith("address 1 (json) did not take it: ")


async def test_none_that_takes_it_is_an_error(
    mail: SmtpServer, hook: WebHook, log: io.StringIO
) -> None:
    """It says which and why, and nothing of what the addresses consist of, at any level."""
    logging.getLogger("anybody").debug("debug lines are seen")
    mail.refuses, hook.status = True, 403
    urls = [
        hook_url(hook),
        mail_url(mail),
        f"json://user:{SECRET}@127.0.0.1:1/{SECRET}",
        f"nonsense://{SECRET}",
        f"mailto://{SECRET}",
    ]
    with pytest.raises(NotSent) as caught:
        await AppriseChannel(urls).send(TITLE, BODY)

    said = str(caught.value)
    assert "address 1 (json) did not take it: Failed to send JSON POST notification" in said
    assert "error=403" in said
    assert "address 2 (mailto) did not take it: " in said
    assert "address 3 (json) did not take it: A Connection error" in said
    assert "address 4 (nonsense) is not one that apprise understands" in said
    assert "address 5 (mailto) is not one that apprise understands" in said
    assert SECRET not in said
    assert "debug lines are seen" in log.getvalue()
    assert SECRET not in log.getvalue()


async def test_check_names_what_is_no_address() -> None:
    """Without sending anything."""
    channel = AppriseChannel(["json://127.0.0.1:1/x", f"nonsense://{SECRET}"])
    [complaint] = await channel.check()
    assert complaint.startswith("notify.urls: address 2 (nonsense) is not one that apprise")
    assert await AppriseChannel(["json://127.0.0.1:1/x"]).check() == []


async def test_an_address_that_does_not_answer(hook: WebHook, mail: SmtpServer) -> None:
    """It is given up after its time; the others are not kept waiting."""
    hook.silent = True
    channel = AppriseChannel([hook_url(hook)], timeout_s=0.2)
    with trio.fail_after(5), pytest.raises(NotSent, match="address 1"):
        await channel.send(TITLE, BODY)
    assert len(hook.posted) == 1

    await AppriseChannel([hook_url(hook), mail_url(mail)], timeout_s=0.2).send(TITLE, BODY)
    assert len(mail.mails) == 1


async def test_without_addresses() -> None:
    """Whoever asks for a test message without any hears what to set."""
    with pytest.raises(NotSent, match=r"set notify\.urls"):
        await AppriseChannel([]).send(TITLE, BODY)


def test_apprise_is_not_imported_before_it_is_needed() -> None:
    """It costs a tenth of a second and some megabytes, which a peer without addresses has not."""
    code = (
        "import sys, pipeline.notifier, pipeline.notify.channel as c; c.AppriseChannel(['a://b']);"
    )
    code += "sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
