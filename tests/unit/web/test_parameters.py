"""Parameters of routes, in the path or in the query."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from wsbridge.web.parameters import asked_for


def test_asked_for_prefers_the_path() -> None:
    request = make_mocked_request("GET", "/users/a?user_id=b", match_info={"user_id": ".."})
    assert asked_for(request, "user_id") == ".."


def test_asked_for_decodes_the_query_once() -> None:
    request = make_mocked_request("GET", "/user?user_id=%252e%2f..+%26", match_info={})
    assert asked_for(request, "user_id") == "%2e/.. &"


@pytest.mark.parametrize("query", ["", "?user_id", "?user_id=", "?user_id=a&user_id=a", "?USER_ID=a"])
def test_asked_for_a_parameter_that_is_missing_or_ambiguous_is_a_bad_request(query: str) -> None:
    request = make_mocked_request("GET", f"/user{query}", match_info={})
    with pytest.raises(web.HTTPBadRequest):
        asked_for(request, "user_id")
