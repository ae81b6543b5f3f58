"""Exceptions that let go of the frames that they passed through, and by that of the requests in these."""


def release(error: BaseException | None) -> None:
    """Drop the tracebacks of an exception that has been dealt with, and of those that led to it.

    A frame in one of them that holds the exception itself makes a cycle, and what a stranger has sent stays in memory
    until the collector comes by. aiohttp makes such cycles for 404 and for heads that it cannot parse.
    """
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
