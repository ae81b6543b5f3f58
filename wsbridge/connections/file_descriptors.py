"""How many descriptors the process may open, and how many of them connections may take."""

import resource

MOST = 1_048_576  # more connections than one process can serve, where the system sets no limit or a higher one
RESERVE = (64, 256)  # descriptors kept back for Redis, key sets and logs: at least, at most


def raise_limit() -> int:
    """Raise the soft limit, which is often 1,024, as far as the system allows; the limit in force.

    macOS says that there is no hard limit, and refuses more than `kern.maxfilesperproc`: step down until it agrees.
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
    """Descriptors that connections may take under the limit in force."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST if soft == resource.RLIM_INFINITY else soft
    least, most = RESERVE
    return max(limit // 2, limit - min(most, max(least, limit // 4)))
