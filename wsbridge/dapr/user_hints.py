"""Names the fields of an event without a user, so that a wrong `WSBRIDGE_USER_ID_FIELD` is found from the log.

The texts contain names of fields, never their values.
"""

from collections.abc import Collection
from itertools import islice

import msgspec

NAMES = 10  # of fields in one text, at most
CHARACTERS = 40  # of each name, at most
EXAMINED = 1_000  # fields of one object, at most: the first ones
_LIKELY = ("userid", "user", "uid", "subject", "ownerid", "customerid")  # as `_plain` makes them
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def why_no_user(data: bytes, field: str) -> str:
    """The reason for the log why `field` (the setting) has no user, and what to do. `data` is a JSON object."""
    seen = "" if field.startswith("@") else _seen(data, field)
    joint = " Publish" if seen.endswith("?") else "; publish"
    return f"{field} has no user{seen}{joint} it in {field}, or change WSBRIDGE_USER_ID_FIELD for all publishers"


def _seen(data: bytes | msgspec.Raw, path: str) -> str:
    """A clause about the object in which the dotted path ends, or "" if its names cannot be read."""
    place = ""
    for name in path.split("."):
        try:
            fields = _object.decode(data)
        except msgspec.DecodeError:  # an unread field is malformed
            return ""
        parent, place = place, f"{place}.{name}".removeprefix(".")
        if name not in fields:
            subject = f"the fields of {parent}" if parent else "the event's fields"
            return f"; {subject} are {_listed(fields)}" + _suggested(fields, name, () if place != path else _LIKELY)
        data = fields[name]
        if bytes(data) in (b"null", b'""', b"[]"):
            return f"; {place} is null or empty"
    return ""


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return (", ".join(_shown(name) for name in sorted(islice(names, EXAMINED))[:NAMES]) or "none") + more


def _suggested(names: Collection[str], wanted: str, likely: tuple[str, ...]) -> str:
    plain = {_plain(name): name for name in islice(names, EXAMINED)}
    meant = next((plain[each] for each in (_plain(wanted), *likely) if each in plain), None)
    return "" if meant is None else f": did you mean {_shown(meant)}?"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _shown(name: str) -> str:
    name = name[:CHARACTERS]
    return name if name.isprintable() else ascii(name)[1:-1][:CHARACTERS]
