"""The file of the browser client: built if it fits the sources."""

import gzip
import json
from pathlib import Path

import pytest

from wsbridge.web.client_file import load

SOURCE = "export const one = 1;\n"


@pytest.fixture
def static(tmp_path: Path) -> Path:
    """The folder of a bridge whose client was built; the contents are stand-ins."""
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "client.js").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "built").mkdir()
    for end in ("", ".gz", ".br"):
        (tmp_path / "built" / f"client.js{end}").write_bytes(f"built{end}".encode())
    source_map = {"sources": ["../../client/src/client.js"], "sourcesContent": [SOURCE]}
    (tmp_path / "built" / "client.js.map").write_text(json.dumps(source_map), encoding="utf-8")
    return tmp_path


def test_load_prefers_the_built_file(static: Path) -> None:
    file = load(static)
    assert file.source == "built"
    assert list(file.bodies.items()) == [("br", b"built.br"), ("gzip", b"built.gz"), ("identity", b"built")]
    assert file.source_map == (static / "built" / "client.js.map").read_bytes()


@pytest.mark.parametrize("change", ["nothing is built", "source changed", "source removed"])
def test_load_bundles_the_sources_if_they_are_not_the_built_ones(static: Path, change: str) -> None:
    text = SOURCE
    if change == "nothing is built":
        (static / "built" / "client.js.map").unlink()
    elif change == "source changed":
        text = "export const two = 2;\n"
        (static / "client" / "client.js").write_text(text, encoding="utf-8")
    else:
        source_map = {"sources": ["../client/client.js", "../client/old.js"], "sourcesContent": [SOURCE, "old"]}
        (static / "built" / "client.js.map").write_text(json.dumps(source_map), encoding="utf-8")
    file = load(static)
    assert (file.source, file.source_map) == ("sources", None)
    assert list(file.bodies) == ["gzip", "identity"]
    assert gzip.decompress(file.bodies["gzip"]).decode() == file.bodies["identity"].decode() == text
