"""Ids of events: short ones unchanged, others as a digest."""

import hashlib

import pytest

from wsbridge.core.event_ids import LONGEST_ID, shortened


@pytest.mark.parametrize("event_id", ["", "e-17", "task-updates/3/41", "ü" * LONGEST_ID, "\U0001f600"])
def test_shortened_short_id_is_unchanged(event_id: str) -> None:
    assert shortened(event_id) == event_id


@pytest.mark.parametrize("event_id", ["x" * (LONGEST_ID + 1), "ü" * 1_000, "\ud800", "a\udfffb"])
def test_shortened_id_that_is_long_or_not_utf8_is_its_digest_once(event_id: str) -> None:
    digest = hashlib.sha256(event_id.encode(errors="surrogatepass")).hexdigest()
    assert shortened(event_id) == shortened(digest) == digest
