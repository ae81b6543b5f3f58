"""The bundle of the browser client's source files."""

import re
from pathlib import Path

from tests.support.running import ROOT
from wsbridge.web.client_bundle import bundle

CLIENT = ROOT / "client" / "src"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return folder


def test_bundle_contains_each_file_once_after_its_imports(tmp_path: Path) -> None:
    text = bundle(
        write(
            tmp_path,
            entry="import { a } from './one.js';\nimport { b } from './two.js';\nexport const entry = a + b;\n",
            one="import { b } from './two.js';\nconst own = 1;\nexport const a = own + b;\n",
            two="const own = 2;\nexport function b() {}\nexport const c = own;\n",
        ),
        "entry",
    )
    assert text == (
        "const { b, c } = (() => {\nconst own = 2;\nfunction b() {}\nconst c = own;\n\nreturn { b, c };\n})();\n\n"
        "const { a } = (() => {\nconst own = 1;\nconst a = own + b;\n\nreturn { a };\n})();\n\n"
        "export const entry = a + b;\n"
    )


def test_bundle_of_the_client_has_no_imports_and_the_exports_of_its_entry() -> None:
    text = bundle(CLIENT, "client")
    assert re.findall(r"^\s*import\b.*", text, re.MULTILINE) == []
    assert re.findall(r"^export\b.*", text, re.MULTILINE) == [
        "export function createClient({ sse, ...options }) {",
        "export { follow };",
    ]
    modules = {path.stem for path in CLIENT.glob("*.js")} - {"client", "types"}  # types.js has types only
    assert len(re.findall(r"^const { ", text, re.MULTILINE)) == len(modules)
