"""SCAN of a real server with the patterns of the key codec."""

import pytest

from tests.support.valkey import Valkey
from wsbridge.broker.redis.codec import all_positions, keys_of

ODD = ["w", "a*", "?", "[ab]", "[^a]", "a-z", "^", "\\", "a\\*", "]", "ü😀", "a:b", "*"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("prefix", ODD)
async def test_scan_of_a_prefix_finds_its_positions_and_nothing_else(valkey: Valkey, prefix: str) -> None:
    client = valkey.client()
    await client.flushall()
    users = ["", "u", "{a}", "*"]
    others = {other + suffix for other in [*ODD, "b", "ab", "az", "a", "aa", "\\a"] for suffix in ("", "x", ":")}
    await client.mset({key: "1" for own in {prefix} | others for user in users for key in keys_of(own, user)})
    found = {key.decode() async for key in client.scan_iter(match=all_positions(prefix), count=1_000)}
    assert found == {keys_of(prefix, user).position for user in users}
