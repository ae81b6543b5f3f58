"""The server that the tests of a module share, unless the module starts its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.valkey import Valkey


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path_factory.mktemp("server")) as valkey:
        yield valkey
