"""The browser client's bundle in a real JavaScript engine."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.running import ROOT
from wsbridge.web.client_bundle import bundle


def test_bundle_in_node_exports_a_working_client(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node not found")
    module = tmp_path / "client.mjs"
    module.write_text(bundle(ROOT / "client" / "src", "client"), encoding="utf-8")
    use = "console.log(createClient({ url: '/ws', userId: 'u' }).state.status)"
    script = f"import {{ createClient }} from '{module.as_uri()}'; {use}"
    ran = subprocess.run(
        [node, "--input-type=module", "--eval", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.stdout, ran.stderr) == ("idle\n", "")
