"""Releases the tracebacks of handled exceptions, and with them the frames and requests that they keep alive."""


def release(error: BaseException | None) -> None:
    """Drop the tracebacks of a handled exception and of its causes.

    A frame that refers to the exception whose traceback contains it makes a reference cycle, which keeps the request in
    memory until the garbage collector runs. aiohttp makes such cycles for 404 and for malformed heads.
    """
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
