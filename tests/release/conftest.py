"""Fixtures: the built packages, and a bridge that runs from the wheel."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e import builds, parts
from tests.release import packages
from tests.release.bridge import Installed


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder with the packages."""
    parts.required(lambda: builds.program("npm"))
    packages.build()
    return packages.DIST


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bridge(built: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installed]:
    """A bridge with its defaults, as `wsbridge serve` starts it after an installation."""
    _ = built
    folder = tmp_path_factory.mktemp("installed")
    packages.install(folder)
    async with Installed(folder) as bridge:
        yield bridge
