"""Whether the scenarios leave out, or reword, anything that the specification says.

`spec/` holds the user's own text of the features, as it was handed in. Capitals, punctuation,
list marks and the keywords at the beginning of a line may differ in a scenario, its words may not.
A sentence may be cut into several steps in a row; the workflow's description is the feature's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_bdd.feature import get_features
from pytest_bdd.parser import ScenarioTemplate

HERE = Path(__file__).parent
FEATURES = get_features([str(HERE)])

# What is no sentence: headings, lines with nothing but a label, a label before a sentence, marks of
# a list, and the keywords of features.md.
HEADING = re.compile(r"^#+ (Feature: )?")
LABEL = re.compile(r"^\*\*[A-Z][A-Za-z ]+:\*\*")
MARK = re.compile(r"^ *([0-9]+\.|-) ")
KEYWORD = re.compile(r"^(Scenario:|Given|When|Then|And|But) ")
SENTENCE_END = re.compile(r"(?<=\.) ")

Words = tuple[str, ...]


def words(text: str) -> Words:
    return tuple(re.findall(r"[a-z]+", text.lower()))


def sentences(document: str) -> Iterator[str]:
    for line in (HERE / "spec" / document).read_text().splitlines():
        text = line
        for pattern in (HEADING, LABEL, MARK, KEYWORD):
            text = pattern.sub("", text)
        yield from SENTENCE_END.split(text.strip()) if text.strip() else ()


def runs_of_steps(scenario: ScenarioTemplate) -> Iterator[Words]:
    """The words of each step, and of each number of steps in a row."""
    steps = [words(step.name) for step in scenario.steps]
    for first in range(len(steps)):
        for last in range(first, len(steps)):
            yield sum(steps[first : last + 1], ())


SAID = {
    *(words(feature.name) for feature in FEATURES),
    *(
        words(text)
        for feature in FEATURES
        for text in SENTENCE_END.split(" ".join(feature.description.split()))
    ),
    *(words(name) for feature in FEATURES for name in feature.scenarios),
    *(
        run
        for feature in FEATURES
        for scenario in feature.scenarios.values()
        for run in runs_of_steps(scenario)
    ),
}
SENTENCES = [
    pytest.param(sentence, id=f"{document}: {sentence[:60]}")
    for document in ("features.md", "workflows.md")
    for sentence in sentences(document)
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_sentence_of_the_specification_is_in_a_scenario(sentence: str) -> None:
    """Each Given, When, Then, step of a flow, and condition is found again, word by word."""
    assert words(sentence) in SAID


def test_every_feature_is_run() -> None:
    """A scenario that nobody runs promises nothing: each file has its module of steps."""
    files = {path.stem for path in HERE.glob("*.feature")}
    run = {
        path.stem.removeprefix("test_")
        for path in HERE.glob("test_*.py")
        if f'scenarios("{path.stem.removeprefix("test_")}.feature")' in path.read_text()
    }
    assert files == run


def test_the_specification_is_read_to_its_end() -> None:
    """Nothing falls through the patterns above: so many sentences have its features."""
    count = {
        document: len(list(sentences(document))) for document in ("features.md", "workflows.md")
    }
    assert count == {"features.md": 61, "workflows.md": 62}
