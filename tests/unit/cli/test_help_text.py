"""The help says what holds: each example of a command can be typed."""

import re
import shlex

import pytest

from wsbridge.cli import help_text, main

LINES = [
    (name, line.strip())
    for name, (_, _, page) in main.COMMANDS.items()
    for line in page.examples.splitlines()
    if f"wsbridge {name} " in f"{line} "
]


@pytest.mark.parametrize(("name", "line"), LINES)
def test_an_example_can_be_typed(name: str, line: str) -> None:
    words = shlex.split(re.sub(r"\$\(.*?\)", "a.b.c", line).partition(" | ")[0])
    main.parse(words[words.index("wsbridge") + 1 :])


def test_each_command_has_examples_and_the_manual_shows_the_first_ones() -> None:
    assert {name for name, _ in LINES} == set(main.COMMANDS)
    for line in help_text.EXAMPLES.splitlines()[:3]:
        main.parse(shlex.split(line)[1:])


def test_the_text_fits_a_terminal() -> None:
    pages = [page for _, _, page in main.COMMANDS.values()]
    for text in (help_text.ABOUT, help_text.EXAMPLES, *(t for page in pages for t in (page.text, page.examples))):
        assert max(map(len, text.splitlines())) <= 80
