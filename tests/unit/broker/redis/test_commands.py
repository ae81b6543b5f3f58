"""Packed commands, and calls of functions that are on a server or are loaded first."""

import re

from tests.support.running import ROOT
from wsbridge.broker.redis.commands import CODE, LIBRARY, Command, call, packed

READS = {"ZCARD", "ZRANGEBYSCORE", "ZSCORE"}  # of receipts, before anything is written; not needed without receipts


def test_call_names_the_function_of_this_version_and_its_keys() -> None:
    command = call("append", ["w:{u}", "w:{u}:h"], 7, b"x", "y")
    assert command == Command("w:{u}", ("FCALL", f"{LIBRARY}_append", 2, "w:{u}", "w:{u}:h", 7, b"x", "y"))


def test_library_and_its_functions_have_the_version_in_their_names() -> None:
    assert CODE.startswith(f"#!lua name={LIBRARY}\n")
    assert re.fullmatch(r"wsbridge_[0-9a-f]{12}", LIBRARY)
    assert "@" not in CODE


def test_command_is_packed_with_the_length_of_each_part() -> None:
    assert packed(("SET", "ä", b"\x00\r\n", 7)) == b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa4\r\n$3\r\n\x00\r\n\r\n$1\r\n7\r\n"


def test_code_checks_the_right_for_each_command_that_it_runs() -> None:
    """A function that fails because a right is missing may have done half of its work already."""
    run = set(re.findall(r"redis\.p?call\('(\w+)'", CODE)) - {"INFO"}  # the functions work without it
    looked_for = set(re.findall(r"\{ '([A-Z]+)'", CODE))
    documented = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert run - looked_for == READS
    assert [command for command in looked_for | READS if f"+{command.lower()}" not in documented] == []
