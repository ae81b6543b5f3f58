"""The versions that a release publishes, and the check of its tag."""

import json
import re
import tomllib

import pytest

from tests.support import release
from tests.support.running import ROOT


def test_versions_agree_in_all_files() -> None:
    assert set(release.versions().values()) == {release.version()}


def test_changelog_begins_with_the_version() -> None:
    assert release.latest()[0] == release.version()
    assert "### Upgrading" in release.notes()
    assert "\n## " not in release.notes()


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "versions", lambda: {"here": "1.2.3", "there": "1.2.3"})
    monkeypatch.setattr(release, "latest", lambda: ("1.2.3", "2026-01-31"))
    monkeypatch.setattr(release, "INSTALLATION", ())


@pytest.mark.usefixtures("ready")
def test_problems_of_a_tag_of_prepared_sources_are_none() -> None:
    repository = "/".join(release.address().split("/")[-2:])
    assert list(release.problems("v1.2.3", repository)) == list(release.problems("v1.2.3", "")) == []


@pytest.mark.usefixtures("ready")
def test_problems_of_a_tag_name_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(release.problems("1.2.3", ""))) == len(list(release.problems("v1.2.4", ""))) == 3
    assert len(list(release.problems("v1.2.3", "another/wsbridge"))) == 1
    monkeypatch.setattr(release, "latest", lambda: ("1.2.3", "unreleased"))
    assert len(list(release.problems("v1.2.3", ""))) == 1


@pytest.mark.parametrize("name", release.INSTALLATION)
def test_problems_find_documents_that_call_the_package_unpublished(name: str) -> None:
    """Until the first release. Then this test goes, with the sentences."""
    assert release.UNPUBLISHED.search((ROOT / name).read_text(encoding="utf-8"))


def test_addresses_of_the_repository_agree() -> None:
    """It is written out in several places, because TOML and JSON have no variables."""
    project = release.address().removeprefix("https://github.com/")
    for name in ("pyproject.toml", "client/package.json", "docs/releasing.md"):
        found = re.findall(
            r"github(?:usercontent)?\.com/([\w-]+/[\w-]+)",
            (ROOT / name).read_text(encoding="utf-8").replace(".git", ""),
        )
        assert found, name
        assert set(found) == {project}, name


def test_package_of_the_client_names_its_folder_in_the_repository() -> None:
    """npm compares the repository with that of the workflow, for the provenance."""
    package = json.loads((ROOT / "client" / "package.json").read_text(encoding="utf-8"))
    assert package["repository"] == {"type": "git", "url": f"git+{release.address()}.git", "directory": "client"}


def test_readme_is_not_in_the_static_metadata() -> None:
    """The build makes its links absolute."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "readme" not in project
    assert "readme" in project["dynamic"]
