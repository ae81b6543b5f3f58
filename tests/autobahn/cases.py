"""The cases of Autobahn's test suite, read from its package, which is written for Python 2.

Their code is unchanged but for what Python 3 would not run, or run otherwise: `PATCHES`. In Python 2 a `str` holds
bytes. Here it has one character for each byte (latin-1), and `client` converts it at the connection.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from autobahn.websocket.utf8validator import Utf8Validator

PATCHES = tuple(
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in (
        (r"^(\s*)print (.*)$", r"\1print(\2)"),
        (r"\(object, Case, \)", "(Case, )"),  # bases that Python 3 cannot put in an order
        (r"pickle\.dumps\((\w+)\) == pickle\.dumps\((\w+)\)", r"\1 == \2"),  # pickles of equal objects may differ
        (r"len\(self\.payload\) / ", "len(self.payload) // "),
        (r"^from autobahn\.websocket\.utf8validator import Utf8Validator$", ""),  # of the names below
        (r"binascii\.b2a_hex\(", "b2a_hex("),
        # Compression, which neither wsbridge nor the aiohttp server of the comparison offers: 12 and 13. The case 9.9.1
        # is not part of the suite, although the module is imported.
        (r"^from case(12_x_x|9_9_1) import \*$", ""),
        (r"^.*Case1[23]_X_X.*$", ""),
    )
)


class LatinValidator:
    """The library's validator for UTF-8, for texts that have one character for each byte."""

    def __init__(self) -> None:
        self._validator = Utf8Validator()
        self.reset, self.validate = self._validator.reset, lambda text: self._validator.validate(text.encode("latin-1"))


def b2a_hex(data: str | bytes) -> str:
    return (data.encode("latin-1") if isinstance(data, str) else data).hex()


NAMES = {"xrange": range, "b2a_hex": b2a_hex, "Utf8Validator": LatinValidator}


class CaseImporter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules of the folder `case`, which import each other by their names alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not (self._folder / f"{fullname}.py").is_file():
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(self._folder / f"{fullname}.py"))

    def exec_module(self, module: ModuleType) -> None:
        self.run(f"{module.__name__}.py", vars(module))

    def run(self, name: str, names: dict[str, Any]) -> None:
        file = self._folder / name
        source = file.read_text(encoding="latin-1")
        for pattern, replacement in PATCHES:
            source = pattern.sub(replacement, source)
        names.update(NAMES)
        exec(compile(source, file, "exec", dont_inherit=True), names)


def load() -> dict[str, type[Any]]:
    """The classes of all cases by their ids, such as 7.9.5, in the order of the suite."""
    found = importlib.util.find_spec("autobahntestsuite")  # finds the package without importing its code
    assert found is not None, "autobahntestsuite is not installed"
    assert found.origin is not None
    importer = CaseImporter(Path(found.origin).parent / "case")
    sys.meta_path.insert(0, importer)
    try:
        names: dict[str, Any] = {}
        importer.run("__init__.py", names)
    finally:
        sys.meta_path.remove(importer)
    return {each.__name__.removeprefix("Case").replace("_", "."): each for each in names["Cases"]}
