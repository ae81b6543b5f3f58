"""The source of each module of the package, by its name, such as `broker.redis.codec`."""

from pathlib import Path

from tests.support.running import ROOT

PACKAGE = ROOT / "wsbridge"


def _named(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {_named(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
