"""Bundles the source files of the browser client into one ES module."""

import re
from importlib.resources.abc import Traversable

_IMPORT = re.compile(r"^import \{ (?:\w+, )*\w+ \} from '\./(\w+)\.js';\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|function|class) (\w+))", re.MULTILINE)


def bundle(folder: Traversable, entry: str) -> str:
    """Bundle `entry` and its imports into one self-contained module with the exports of `entry`.

    Files may only import by name, without `as`, from files of the same folder. Each file except `entry` is wrapped in a
    function, so that its private names do not collide, and comes after its imports. Comments are kept.
    """
    bodies: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in bodies:
            source = folder.joinpath(f"{name}.js").read_text(encoding="utf-8")
            for imported in _IMPORT.findall(source):
                add(imported)
            bodies[name] = _IMPORT.sub("", source)

    add(entry)
    own = bodies.pop(entry)
    return "\n".join([*map(_enclosed, bodies.values()), own])


def _enclosed(body: str) -> str:
    names = ", ".join(_EXPORT.findall(body))
    return f"const {{ {names} }} = (() => {{\n{_EXPORT.sub('', body)}\nreturn {{ {names} }};\n}})();\n"
