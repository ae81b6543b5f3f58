"""The browser client as one ES module: its source files, one behind the other."""

import re
from importlib.resources.abc import Traversable

_IMPORT = re.compile(r"^import \{ [\w, ]+ \} from '\./(\w+)\.js';\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|function) (\w+))", re.MULTILINE)


def bundle(folder: Traversable, entry: str) -> str:
    """One self-contained module, which exports what `entry` does: a page needs one request, one copy, one `integrity`.

    Each file imports by name from files beside it. What it does not export it keeps to itself: all files but `entry`
    go into functions of their own, behind those that they import. Comments stay, for those who look.
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
