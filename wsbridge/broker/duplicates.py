"""The memory of recent event keys, by which `MemoryBroker` recognises duplicates. On Redis `history.lua` has it."""


class RecentKeys:
    """Keys seen during the last `ttl` seconds or longer. Beyond `most` keys, the oldest half is dropped early.

    Two generations of sets are used instead of a time for each key, and a 64-bit hash instead of the key. This takes
    half the memory, and nothing has to be scanned. With a million keys, a new one has the hash of another once in
    10**13 events. Nobody can force a collision, because the hash is seeded in each process.
    """

    def __init__(self, ttl: float, most: int) -> None:
        self._ttl = ttl
        self._half = max(1, most // 2)
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._turn = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def has(self, key: tuple[str, str]) -> bool:
        seen = hash(key)
        return seen in self._young or seen in self._old

    def add(self, key: tuple[str, str]) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, set()
        self._young.add(hash(key))

    def age(self, now: float) -> None:
        """Must be called regularly, with the time in seconds."""
        if now >= self._turn:
            self._old = self._young if now < self._turn + self._ttl else set()
            self._young = set()
            self._turn = now + self._ttl
