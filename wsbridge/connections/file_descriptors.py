"""The limit of file descriptors of the process, and the share of it for connections."""

import resource

MOST = 1_048_576  # used where the system has no limit or a higher one: more than a process can serve
RESERVE = (64, 256)  # descriptors reserved for Redis, key sets and logs: minimum, maximum


def raise_limit() -> int:
    """Raise the soft limit, which is often 1,024, as far as the system allows. Returns the new limit.

    macOS reports no hard limit but refuses more than `kern.maxfilesperproc`: halve the value until it is accepted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    while wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            wanted //= 2
        else:
            return wanted
    return soft


def for_connections() -> int:
    """The number of descriptors that connections may use under the current limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST if soft == resource.RLIM_INFINITY else soft
    least, most = RESERVE
    return max(limit // 2, limit - min(most, max(least, limit // 4)))
