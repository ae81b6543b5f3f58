"""The browsers in which tests run, one of each engine, and the programs that they need."""

import os
import shutil

import pytest

REQUIRED = os.environ.get("REQUIRE_ALL_TESTS") == "1"
ENGINES = ("chromium", "firefox", "webkit")
_PROGRAMS = {  # names in PATH, and Debian's package
    "chromium": (("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), "chromium"),
    "firefox": (("firefox-esr", "firefox"), "firefox-esr"),
    "webkit": (("WebKitWebDriver",), "webkit2gtk-driver"),
    "screen": (("Xvfb",), "xvfb"),  # WebKitGTK needs one
}


def program(name: str) -> str:
    """Find a program by its engine. If it is missing, the test is skipped, or fails where all tests have to run."""
    names, package = _PROGRAMS[name]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = f"not in PATH: {' or '.join(names)} (Debian: apt-get install {package})"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return found
