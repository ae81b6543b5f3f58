"""The wheel and the sdist: what is in them, what the index shows, and that the wheel is enough to run."""

import re
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.release import packages
from tests.release.bridge import Installed
from tests.support.browser import launched  # before playwright: it skips the tests if that is not installed
from tests.support.release import address, version
from tests.support.running import ROOT

# isort: split

from playwright.async_api import expect

pytestmark = pytest.mark.usefixtures("built")


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the project on the index, as HTML."""
    with zipfile.ZipFile(packages.wheel()) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(wheel.read(name))
    assert metadata["Version"] == version()
    text = tmp_path_factory.mktemp("description") / "README.md"
    body = metadata.get_payload(decode=True)
    assert isinstance(body, bytes)
    text.write_bytes(body)
    return packages.python("readme_renderer", text)


def test_wheel_from_the_sdist_is_the_wheel_from_the_sources_byte_for_byte(tmp_path: Path) -> None:
    packages.python("build", "--no-isolation", "--wheel", "--outdir", tmp_path)
    (direct,) = tmp_path.glob("*.whl")
    assert direct.name == packages.wheel().name
    assert direct.read_bytes() == packages.wheel().read_bytes()


def test_sdist_has_every_file_that_the_readme_uses(tmp_path: Path) -> None:
    """All of the repository. Git has the client's folder as a link, which an archive does not keep."""
    (sdist,) = (packages.DIST / "python").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    link = "wsbridge/web/static/client"
    assert set(packages.run("git", "ls-files").splitlines()) - files == {link}
    assert {path.name for path in (folder / link).iterdir()} == {path.name for path in (ROOT / link).iterdir()}


def test_packages_pass_twine() -> None:
    packages.python("twine", "check", "--strict", *sorted((packages.DIST / "python").iterdir()))


def test_wheel_passes_check_wheel_contents() -> None:
    packages.python("check_wheel_contents", packages.wheel())


def test_wheel_has_every_source_and_the_built_client() -> None:
    names = set(zipfile.ZipFile(packages.wheel()).namelist())
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "wsbridge").rglob("*") if path.suffix in (".py", ".lua")}
    assert sources - names == set()
    assert {f"wsbridge/web/static/built/client.js{suffix}" for suffix in ("", ".br", ".gz", ".map")} <= names


def test_description_has_no_relative_link(description: str) -> None:
    links = re.findall(r"""(?:href|src)="([^"]*)""", description)
    assert len(links) > 30
    # The renderer gives each heading a link to itself.
    assert [link for link in links if not re.match("https?://|#user-content-", link)] == []


def test_description_links_of_the_repository_have_a_target(description: str) -> None:
    project = address().removeprefix("https://github.com/")
    places = rf"github\.com/{project}/blob/v{version()}/|raw\.githubusercontent\.com/{project}/v{version()}/"
    paths = re.findall(rf"https://(?:{places})([^\"#]+)", description)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.asyncio(loop_scope="session")
async def test_wheel_with_its_locked_dependencies_shows_the_demo_page(bridge: Installed) -> None:
    async with launched() as browser:
        page = await browser.new_page()
        await page.goto(bridge.url)
        tabs = page.locator(".browser[data-user=alice] article.tab .badge")
        await expect(tabs).to_have_text(["open", "open"])
        bridge.publish("task_id=1", "title=Buy milk")
        await expect(page.locator("article.tab .tasks .title")).to_have_text(["Buy milk"] * 2)  # not in bob's
