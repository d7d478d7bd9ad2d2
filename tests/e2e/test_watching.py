"""Real peers, watched: what Prometheus reads of them, what says whether they live and would work,
what their logs say, and what a support bundle of them holds and does not hold."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipeline.media.tools import Tools
from tests.e2e.cluster_rig import Machine, machine_of_peers, make_clip
from tests.missing import do_without

pytestmark = pytest.mark.slow

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"
NAMES = ("one", "two")
SERIES_MAX = 700

Series = dict[tuple[tuple[str, str], ...], float]


SETTINGS = """
[peer]
metrics_listen = "127.0.0.1:0"
log_format = "json"
[scaling]
orchestrator = "local"
containers_max = 2
interval_s = 1
"""


@pytest.fixture(scope="module")
def clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, that are done in passing."""
    clip = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(tools, clip, "testsrc2=size=320x180:rate=25:duration=2")


@pytest.fixture(scope="module")
def watched(clip: Path) -> Iterator[tuple[Machine, str]]:
    """Two peers that serve metrics, scale on this machine, and have done one task."""
    with machine_of_peers(SETTINGS) as machine:
        machine.start(*NAMES)
        task_id = machine.submit(clip)
        machine.wait_for_task(task_id, "done")
        yield machine, task_id


def url(machine: Machine, name: str, page: str) -> str:
    return f"http://{machine.ask(name, 'status', {})['metrics']}{page}"


def fetched(address: str) -> tuple[int, Any]:
    """The status and the document of a page."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def scrape(machine: Machine, name: str) -> str:
    with urllib.request.urlopen(url(machine, name, "/metrics"), timeout=10) as answer:
        return str(answer.read().decode())


def families(text: str) -> dict[str, str]:
    """Every family by the name that people know, with its type."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(text)
    }


def samples(text: str) -> dict[str, Series]:
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def leader(machine: Machine) -> str:
    """The peer that scales, once it has seen how long a part takes."""

    def look() -> str | None:
        for name in NAMES:
            if "\ngrapevine_scaling_part_seconds " in scrape(machine, name):
                return name
        return None

    return machine.wait(look) or ""


def documented() -> dict[str, tuple[str, ...]]:
    """The metrics of the README, each with its labels."""
    rows = re.findall(
        r"^\| `((?:grapevine|process)_\w+)` \| ([^|]*)\|",
        (GRAFANA / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == len({name for name, _ in rows}), "twice in the README"
    return {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_every_metric_is_documented_and_every_documented_one_is_there(
    watched: tuple[Machine, str],
) -> None:
    """The README and a real scrape list the same names and labels, and promtool has no objection
    to any of them."""
    machine, _ = watched
    text = scrape(machine, leader(machine))
    assert families(text).keys() == documented().keys()
    used: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        for sample in family.samples:
            used.setdefault(name, set()).update(sample.labels.keys() - {"le"})
    assert {name: labels - set(documented()[name]) for name, labels in used.items()} == {
        name: set() for name in used
    }
    if shutil.which("promtool") is None:
        do_without("install Debian's package prometheus: promtool is not on the PATH")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def expressions() -> list[str]:
    """Everything that is asked of Prometheus by the dashboard and the rules."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(str(value[key]) for key in ("expr", "definition") if key in value)
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(json.loads((GRAFANA / "dashboard.json").read_text()))
    for file in ("recording.yml", "alerts.yml"):
        walk(yaml.safe_load((GRAFANA / file).read_text()))
    return found


def test_whatever_is_asked_for_is_there(watched: tuple[Machine, str]) -> None:
    """Each metric that the dashboard or a rule names is a real peer's, or a rule makes it."""
    machine, _ = watched
    there = samples(scrape(machine, leader(machine))).keys() | documented().keys()
    recorded = {
        rule["record"]
        for group in yaml.safe_load((GRAFANA / "recording.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    names = {
        name
        for expression in expressions()
        for name in re.findall(r"[\w:]*\b(?:grapevine|process)_[\w:]+", expression)
    }
    assert len(names) > 50
    assert {name for name in names if ":" in name} <= recorded
    assert {name for name in names if ":" not in name} <= there


@contextmanager
def prometheus(targets: list[str], directory: Path) -> Iterator[str]:
    """A real Prometheus on this machine with our rules, that looks once a second; its address."""
    program = shutil.which("prometheus") or do_without("install Debian's package prometheus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scrape_job = {"job_name": "grapevine", "static_configs": [{"targets": targets}]}
    config = directory / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(GRAFANA / "recording.yml"), str(GRAFANA / "alerts.yml")],
                "scrape_configs": [scrape_job],
            }
        )
    )
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], stdout=log, stderr=log
        )
    try:
        yield f"http://{address}/api/v1"
    finally:
        process.terminate()
        process.wait(30)


def test_prometheus_takes_all_of_it(watched: tuple[Machine, str], tmp_path: Path) -> None:
    """A real one reads the peers, works out every rule without an error, fires nothing while all is
    well, and answers each question of the dashboard."""
    machine, _ = watched
    leader(machine)
    targets = [machine.ask(name, "status", {})["metrics"] for name in NAMES]
    with prometheus(targets, tmp_path) as api:

        def asked(what: str) -> Any:
            try:
                return fetched(f"{api}/{what}")[1]["data"]
            except (OSError, ValueError):
                return None  # it is starting: nobody is there, or it says so, and not as JSON

        def ruled() -> list[dict[str, Any]]:
            """Every rule, once each was worked out."""
            groups = (asked("rules") or {"groups": []})["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            return [] if any(rule["health"] == "unknown" for rule in rules) else rules

        def result(question: str) -> list[Any]:
            answer = asked(f"query?query={urllib.parse.quote(question)}")
            return list(answer["result"]) if answer else []

        machine.wait(lambda: len(result('up{job="grapevine"} == 1')) == len(NAMES))
        machine.wait(lambda: result("cluster:grapevine_slots:sum"))
        machine.wait(lambda: result("instance:grapevine_loop_lag_seconds:p99_rate5m"))
        assert {rule["health"] for rule in machine.wait(ruled)} == {"ok"}
        alerts = machine.wait(partial(asked, "alerts"))["alerts"]
        assert not [alert for alert in alerts if alert["state"] == "firing"]
        for expression in expressions():
            question = expression.replace("$job", "grapevine").replace("$instance", ".*")
            if not question.startswith("label_values"):
                assert asked(f"query?query={urllib.parse.quote(question)}") is not None, question


def test_numbers_do_not_grow_with_the_work_or_the_cluster(watched: tuple[Machine, str]) -> None:
    """No series has a task or another peer in it, and there are some hundreds of them."""
    machine, task_id = watched
    texts = {name: scrape(machine, name) for name in NAMES}
    uids = {name: machine.ask(name, "status", {})["uid"] for name in NAMES}
    for name, other in zip(NAMES, reversed(NAMES), strict=True):
        assert task_id not in texts[name]
        assert uids[name] in texts[name]
        assert uids[other] not in texts[name]
        assert sum(len(series) for series in samples(texts[name]).values()) < SERIES_MAX


def test_the_numbers_are_those_of_the_work(watched: tuple[Machine, str], clip: Path) -> None:
    """One task was done: one claim, one attempt, each step once, the bytes of its source, its
    events; and the cluster is as it is."""
    machine, _ = watched
    found = [samples(scrape(machine, name)) for name in NAMES]

    def total(name: str, **labels: str) -> float:
        wanted = tuple(sorted(labels.items()))
        return sum(each[name].get(wanted, 0.0) for each in found)

    assert total("grapevine_claims_total", answer="claimed") == 1
    assert total("grapevine_attempts_total", outcome="done") == 1
    assert total("grapevine_attempts_total", outcome="retry") == 0
    for step in ("pull", "inspect", "transcode", "push", "commit"):
        assert total("grapevine_step_duration_seconds_count", step=step) == 1
    assert total("grapevine_pulled_bytes_total") == clip.stat().st_size
    assert total("grapevine_pushed_bytes_total") > 0
    assert total("grapevine_encoded_media_seconds_total") == pytest.approx(2, abs=0.1)
    assert 0 < total("grapevine_encode_seconds_total") < 60
    assert total("grapevine_events_total", type="VideoTranscoded") == 1
    assert total("grapevine_jobs", step="transcode") == 0
    for each in found:
        assert each["grapevine_members"][(("state", "alive"),)] == 2
        assert each["grapevine_ready"][()] == 1
        assert each["grapevine_gossip_heartbeats_received_total"][()] > 0
        assert each["grapevine_loop_lag_seconds_count"][()] > 0
    assert total("grapevine_leader") == 1
    assert total("grapevine_scaling_leading") == 1


def test_a_drained_peer_lives_and_is_not_ready(watched: tuple[Machine, str]) -> None:
    """/readyz says why it takes no work, /healthz that there is nothing to restart it for."""
    machine, _ = watched
    ready, healthy = (url(machine, "two", page) for page in ("/readyz", "/healthz"))
    assert fetched(ready) == (200, {"ready": True, "why_not": {}})
    machine.peerctl("drain", "--peer", "two")
    try:
        machine.wait(lambda: fetched(ready)[0] == 503)
        assert fetched(ready)[1]["why_not"].keys() == {"drained"}
        assert fetched(healthy)[0] == 200
        assert 'grapevine_not_ready{reason="drained"} 1.0' in scrape(machine, "two")
    finally:
        machine.peerctl("resume", "--peer", "two")
    machine.wait(lambda: fetched(ready)[0] == 200)


def test_a_peer_that_peerctl_cannot_reach_is_not_alive(watched: tuple[Machine, str]) -> None:
    """Somebody has removed its control socket: only a restart mends that, and /healthz says it."""
    machine, _ = watched
    healthy = url(machine, "two", "/healthz")
    status, said = fetched(healthy)
    assert (status, said["control"]) == (200, "ok")
    control = machine.data_dir / "peers/two/control.sock"
    aside = control.rename(control.with_name("aside"))
    try:
        status, said = fetched(healthy)
        assert (status, said["alive"]) == (503, False)
        assert "No such file" in said["control"]
    finally:
        aside.rename(control)
    assert fetched(healthy)[0] == 200


def test_every_line_of_the_log_says_who_and_for_which_task(watched: tuple[Machine, str]) -> None:
    """Each is a document with the life that writes it; what belongs to the task has its id."""
    machine, task_id = watched
    done = 0
    for name in NAMES:
        uid = machine.ask(name, "status", {})["uid"]
        log = (machine.data_dir / f"{name}.log").read_text()
        lines = [json.loads(line) for line in log.splitlines()]
        assert lines
        for line in lines:
            assert line["peer"] == name
            assert line["peer_uid"] == uid
            assert line["peer_epoch"] > 0
            assert {"node", "container", "timestamp", "level", "logger", "message"} <= line.keys()
        done += sum(line.get("task") == task_id and line["action"] == "done" for line in lines)
    assert done == 1


CANARY = "canary7b1f"


def planted() -> dict[str, str]:
    """Every secret setting that a peer may have, each with something that must not be found."""
    secrets = {
        "QUEUE_URL": "amqp://127.0.0.1:1/film",
        "QUEUE_USER": "film",
        "QUEUE_PASSWORD": f"{CANARY}-queue",
        "STORE_S3_ENDPOINT": "http://127.0.0.1:1",
        "STORE_S3_ACCESS_KEY": f"{CANARY}-access",
        "STORE_S3_SECRET_KEY": f"{CANARY}-secret",
        "STORE_S3_SESSION_TOKEN": f"{CANARY}-session",
        "GOSSIP_KEY": CANARY.encode().hex().ljust(64, "0"),
        "NOTIFY_URLS": f"json://ops:{CANARY}-hook@127.0.0.1:1/{CANARY}-path",
        "SCALING_ORCHESTRATOR": "swarm",
        "SCALING_SWARM_MANAGERS": "unix:///nowhere.sock",
        "SCALING_SWARM_SERVICE": "film_peer",
        "SCALING_PROVIDER_KIND": "libcloud",
        "SCALING_PROVIDER_JOIN_TOKEN": f"SWMTKN-1-{CANARY}",
        "SCALING_PROVIDER_LIBCLOUD_PROVIDER": "ec2",
        "SCALING_PROVIDER_LIBCLOUD_KEY": f"{CANARY}-cloud",
        "SCALING_PROVIDER_LIBCLOUD_SECRET": f"{CANARY}-cloud-secret",
        "SCALING_PROVIDER_LIBCLOUD_REGION": "eu-central-1",
        "SCALING_PROVIDER_LIBCLOUD_SIZE": "t3.large",
        "SCALING_PROVIDER_LIBCLOUD_IMAGE": "ami-1",
        "PEER_LOG_LEVEL": "debug",
    }
    return {f"GRAPEVINE_{name}": value for name, value in secrets.items()}


def bundled(machine: Machine, file: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Make a bundle; return what is in it, and what is not and why."""
    machine.peerctl("bundle", "-o", str(file))
    with tarfile.open(file) as bundle:
        found = {
            member.name.partition("/")[2]: content.read().decode()
            for member in bundle.getmembers()
            if (content := bundle.extractfile(member)) is not None
        }
    manifest = json.loads(found["manifest.json"])
    missing = {part["name"]: part["missing"] for part in manifest["parts"] if part["missing"]}
    return found, missing


def test_a_bundle_has_what_helps_and_no_secret(machine: Machine, tmp_path: Path) -> None:
    """Every service is away, one peer waits for its ledger, one is frozen: the bundle is made all
    the same, names what is missing, and none of the planted secrets is in it, though whoever makes
    it knows none of them."""
    machine.launch("one", environment=planted())
    ledger = f"postgresql://film:{CANARY}-ledger@127.0.0.1:1/film?sslpassword={CANARY}-tls"
    waiting = planted() | {"GRAPEVINE_LEDGER_URL": ledger}
    machine.launch("two", environment=waiting)
    machine.launch("three", "--set", "gossip.key=" + "11" * 32)

    def troubled(name: str) -> bool:
        said = machine.ask(name, "status", {}).get("dependencies", {})
        return any(why not in ("ok", "starting") for why in said.values())

    machine.wait(lambda: troubled("one") and troubled("two"))
    machine.wait(lambda: machine.ask("three", "status", {}).get("state") == "working")
    machine.processes["three"].send_signal(signal.SIGSTOP)
    try:
        found, missing = bundled(machine, tmp_path / "b.tar.gz")
    finally:
        machine.processes["three"].send_signal(signal.SIGCONT)
    everything = "".join(found.values())
    assert CANARY not in everything
    assert CANARY.encode().hex() not in everything

    assert "did not answer" in missing["peers/three/status.json"]
    assert json.loads(found["peers/one/status.json"])["metrics"] == ""
    assert "grapevine_ready 0.0" in found["peers/two/metrics.txt"]
    settings = json.loads(found["peers/two/settings.json"])
    assert settings["ledger.url"] == "postgresql://***@127.0.0.1:1/film?***"
    assert settings["queue.password"] == settings["gossip.key"] == "***"
    assert "waiting for the ledger" in found["peers/two/log.txt"]
    assert json.loads(found["cluster/events.json"]) == []
    why = missing["cluster/queue.json"]
    assert re.search(r"one: .*; three: .* did not answer .*; two: this peer is still starting", why)
    assert found.keys() >= {"machine.json", "versions.json", "doctor.json", "README.txt"}
