"""Fixtures: the image, built once, and containers of it."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.e2e import builds, parts
from tests.image import base
from tests.image.container import Container, Run
from tests.image.image import Image, Store


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    for name in ("mmdebstrap", "buildah", "runc"):
        parts.required(partial(builds.program, name))
    if os.geteuid() != 0:
        pytest.skip("the image can be built by root only")
    parts.required(base.rootfs)
    folder = tmp_path_factory.mktemp("image")
    store = Store(folder)
    try:
        yield store.build()
    finally:
        store.close()
        shutil.rmtree(folder)  # half a gigabyte


@pytest.fixture
async def run(image: Image, tmp_path: Path) -> AsyncIterator[Run]:
    """Run a container, with the environment variables given as keywords; it ends with the test."""
    with ExitStack() as stack:

        def running(**environment: str) -> Container:
            container = Container(image, tmp_path, **environment)
            stack.callback(container.remove)
            return container

        yield running
