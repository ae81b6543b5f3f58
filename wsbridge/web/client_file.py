"""The browser client as one file: minified by `make client`, or else bundled from its sources at the start."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from wsbridge.web.client_bundle import bundle

_STATIC = files("wsbridge.web").joinpath("static")


@dataclass(frozen=True, kw_only=True)
class ClientFile:
    """`bodies` has the file in each content coding, the smallest first. The readable one has no `source_map`."""

    bodies: Mapping[str, bytes]
    source_map: bytes | None = None

    @property
    def source(self) -> str:
        """`built` or `sources`, for the log."""
        return "sources" if self.source_map is None else "built"


@cache
def client_file() -> ClientFile:
    """The file of this process."""
    return load(_STATIC)


def load(static: Traversable) -> ClientFile:
    """The built file if there is one and it has been built from the present sources; else a bundle of the sources."""
    sources, built = static.joinpath("client"), static.joinpath("built")
    try:
        source_map = built.joinpath("client.js.map").read_bytes()
        if _is_current(source_map, sources):
            suffixes = {"br": ".br", "gzip": ".gz", "identity": ""}
            bodies = {coding: built.joinpath(f"client.js{suffix}").read_bytes() for coding, suffix in suffixes.items()}
            return ClientFile(bodies=bodies, source_map=source_map)
    except FileNotFoundError:  # not built, or a source was removed since
        pass
    text = bundle(sources, "client").encode()
    return ClientFile(bodies={"gzip": gzip.compress(text, 9, mtime=0), "identity": text})


def _is_current(source_map: bytes, sources: Traversable) -> bool:
    contents = json.loads(source_map)
    names = (PurePosixPath(path).name for path in contents["sources"])
    texts = (sources.joinpath(name).read_text(encoding="utf-8") for name in names)
    return bool(list(texts) == contents["sourcesContent"])
