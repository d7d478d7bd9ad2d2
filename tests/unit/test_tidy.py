"""What no reviewer should have to look for: sizes, banned calls, folders, names, leftovers.

Rules that ruff, mypy or import-linter can hold are theirs; here is what none of them can say.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.events import EVENT_KINDS, EVENT_TYPES
from pipeline.tasks import STEP_EVENTS
from tests.missing import do_without

ROOT = Path(__file__).parents[2]
ROOMS = ("peer", "gossip", "membership", "pipeline", "scaling")
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# As spec/features.md numbers them.
THE_SEVENTEEN = (
    "TaskReceived",
    "TaskDetailsRetrieved",
    "VideoFilePulled",
    "VideoTranscoded",
    "TranscodedVideoUploaded",
    "WorkerNodeScaledUp",
    "WorkerNodeScaledDown",
    "ContainerErrorRetry",
    "ContainerErrorEscalation",
    "ContainerFailureDetected",
    "HeartbeatReceived",
    "GossipTableMerged",
    "ContainerScaledUp",
    "ContainerScaledDown",
    "ResourceUtilizationThresholdReached",
    "WorkloadProcessingStarted",
    "WorkloadProcessingFinished",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=_name(path))


PRODUCT = _modules(*ROOMS)
EVERYTHING = _modules(*ROOMS, "tests", ".github")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Every file that is, or would be, committed."""
    if not (ROOT / ".git").exists():
        do_without("this is not a clone: there is no list of the files that belong to it")
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


@pytest.mark.parametrize("path", EVERYTHING, ids=_name)
def test_modules_and_functions_stay_small(path: Path) -> None:
    """A module has 600 lines at most, and a function 70 without its docstring."""
    assert len(path.read_text().splitlines()) <= MODULE_LINES_MAX
    long = {
        f"{node.name}: {lines} lines"
        for node in ast.walk(_tree(path))
        if isinstance(node, Function) and (lines := _body_lines(node)) > FUNCTION_LINES_MAX
    }
    assert not long


def _body_lines(function: Function) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", PRODUCT, ids=_name)
def test_every_module_opens_with_its_idea(path: Path) -> None:
    """The first thing in a module, or in a package, says in a sentence what it is for."""
    docstring = ast.get_docstring(_tree(path))
    assert docstring
    assert docstring.split("\n\n")[0].endswith((".", "?", ":"))


@pytest.mark.parametrize("path", _modules("tests"), ids=_name)
def test_every_test_says_what_must_hold(path: Path) -> None:
    """A test's docstring is the sentence that it proves."""
    silent = [
        node.name
        for node in ast.walk(_tree(path))
        if isinstance(node, Function)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent


@pytest.mark.parametrize("path", PRODUCT, ids=_name)
def test_calls_nothing_banned(path: Path) -> None:
    """No call that blocks the loop, hides its randomness, runs a shell or reads at import."""
    tree = _tree(path)
    found = [*_banned_calls(tree), *_swallowed_cancellations(tree), *_environment_at_import(tree)]
    assert not found


BANNED_CALLS = {
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "breakpoint": "is a leftover",
    "datetime.utcnow": "gives a time without a zone",
}


def _banned_calls(tree: ast.Module) -> Iterator[str]:
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called == "time.sleep" and "trio" in imported:
            yield f"line {node.lineno}: time.sleep holds up every other task of the loop"
        elif called in BANNED_CALLS:
            yield f"line {node.lineno}: {called} {BANNED_CALLS[called]}"
        elif re.fullmatch(r"random\.[a-z]\w*", called):
            yield f"line {node.lineno}: {called} cannot be repeated from a seed; take a Random"
        elif any(word.arg == "shell" for word in node.keywords):
            yield f"line {node.lineno}: {called} with shell=… runs a shell"


def _swallowed_cancellations(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = "everything" if node.type is None else ast.unparse(node.type)
        broad = re.search(r"\b(everything|BaseException|Cancelled)\b", caught)
        if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            yield f"line {node.lineno}: catches {caught} and does not raise it again"


def _environment_at_import(tree: ast.Module) -> Iterator[str]:
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Attribute | ast.Name):
            read = ast.unparse(node)
            if re.fullmatch(r"(os\.)?(environ|getenv)b?", read):
                yield f"line {node.lineno}: reads {read} while it is imported"
        # What is inside a function runs later; its defaults and decorators run at import.
        skipped = node.body if isinstance(node, Function | ast.Lambda) else ()
        bodies = skipped if isinstance(skipped, list) else [skipped]
        pending += [inner for inner in ast.iter_child_nodes(node) if inner not in bodies]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time\nimport trio\ntime.sleep(1)", True),
        ("import time\ntime.sleep(1)", False),
        ("import random\nrandom.choice([1])", True),
        ("import random\nrandom.Random(1)", False),
        ("try:\n  x()\nexcept BaseException:\n  pass", True),
        ("try:\n  x()\nexcept:\n  pass", True),
        ("try:\n  x()\nexcept (OSError, trio.Cancelled):\n  y()", True),
        ("try:\n  x()\nexcept BaseException:\n  y()\n  raise", False),
        ("import os\nHOME = os.environ.get('HOME')", True),
        ("import os\nclass C:\n  home = os.getenv('HOME')", True),
        ("import os\ndef f(home=os.environ['HOME']): ...", True),
        ("import os\ndef f():\n  return os.environ['HOME']", False),
        ("import os\nf = lambda: os.environ['HOME']", False),
    ],
)
def test_the_checks_above_find_what_they_look_for(source: str, found: bool) -> None:
    """A check that can find nothing would be worse than none."""
    tree = ast.parse(source)
    findings = [
        *_banned_calls(tree),
        *_swallowed_cancellations(tree),
        *_environment_at_import(tree),
    ]
    assert bool(findings) == found


def test_the_top_level_folders_are_these(tracked: list[Path]) -> None:
    """Seven folders, and hidden ones: each has one subject, and a new one needs a reason."""
    folders = {file.relative_to(ROOT).parts[0] for file in tracked if file.parent != ROOT}
    visible = {folder for folder in folders if not folder.startswith(".")}
    assert visible == {*ROOMS, "deploy", "tests"}


def test_no_file_is_named_after_nothing() -> None:
    """A module named utils, helpers or common has no idea of its own."""
    vague = {"utils", "util", "common", "helpers", "misc", "base", "types"}
    assert not [_name(path) for path in PRODUCT if path.stem in vague]


def test_exactly_the_seventeen_events_are_known() -> None:
    """The registry has the specification's events, by their names, each once."""
    assert [event.kind for event in EVENT_TYPES] == list(THE_SEVENTEEN)
    assert frozenset(THE_SEVENTEEN) == EVENT_KINDS
    assert [event.__name__ for event in EVENT_TYPES] == list(THE_SEVENTEEN)
    assert set(STEP_EVENTS.values()) <= EVENT_KINDS


# In pieces, so that this file does not find itself.
FOREIGN = re.compile(
    "|".join(
        [
            r"py" r"pi\.org",
            r"python" r"hosted\.org",
            r"deb" r"ian\.org",
            r"npm" r"js\.(org|com)",
            r"(?<![\w.}*])/(work|root)" r"/\w",
        ]
    )
)


def test_names_no_registry_and_no_path_of_a_machine(tracked: list[Path]) -> None:
    """Where packages come from, and where somebody's files lie, is the machine's business."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for file in tracked
        if file.suffix not in {".png", ".gif", ".mp4", ".jpg"}
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert not found


def test_nothing_is_left_for_later(tracked: list[Path]) -> None:
    """What is missing is an issue, not a comment."""
    later = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in tracked
        if file.suffix in {".py", ".sql", ".toml", ".md", ".yml", ""}
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1)
        if later.search(line)
    ]
    assert not found


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_what_the_documents_tell_to_type_exists(document: str) -> None:
    """Every `make` target, and every file that a document links to, is there."""
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    told = set(re.findall(r"(?:`|^ *(?:\$ )?|CI=true )make (\w+)", text, flags=re.MULTILINE))
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert told <= targets
    assert not [link for link in links if not (ROOT / link).exists()]
    assert told or links
