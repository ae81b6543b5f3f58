"""Reads what a route for operators is asked about: from its path, or from the query, which can name every id."""

from aiohttp import web


def asked_for(request: web.Request, name: str) -> str:
    """The value of `name` in the path or in the query. Raises `web.HTTPBadRequest` if it is missing or ambiguous."""
    if name in request.match_info:
        return request.match_info[name]
    values = request.query.getall(name, [])
    if len(values) == 1 and values[0]:
        return values[0]
    found = f"{len(values)} times" if len(values) > 1 else "empty" if values else "missing"
    text = f"{request.path} needs the parameter {name} once in its query, and it is {found}. Percent-encode its value."
    raise web.HTTPBadRequest(text=text)
