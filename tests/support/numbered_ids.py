"""A pytest plugin for `make mutants`: names parameters by numbers.

mutmut runs tests by their ids, and pytest cannot find an id that contains a backslash.
"""

import itertools
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    named = metafunc.parametrize

    def numbered(*args: Any, ids: object = None, **options: Any) -> None:
        named(*args, ids=map(str, itertools.count()), **options)

    metafunc.parametrize = numbered  # type: ignore[method-assign]  # pytest applies the marks through it
