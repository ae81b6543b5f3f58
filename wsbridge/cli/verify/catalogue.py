"""The findings of `wsbridge verify` and their cures. docs/verify.md explains each."""

from typing import NamedTuple

FAILURES = {
    "unreachable": "check --url, the ingress and the tokens; `wsbridge listen` explains each refusal",
    "publish-failed": "check --publish-url, --pubsub, --topic and the API token; see the log of the sidecar",
    "away": "was a replica ready at the end? Let --during end only when one is, as `kubectl rollout status` does",
    "nothing-arrives": "is the bridge subscribed, and does its sidecar have partitions? `wsbridge doctor` checks both",
    "partition-lost": (
        "look for another consumer in the Kafka group of the bridge, for a sidecar that hangs, and for event.retried "
        "in the log of the bridge; `wsbridge doctor --canary` names the partitions"
    ),
    "competing-replicas": (
        "set WSBRIDGE_REDIS_URL on all replicas, or give each replica a consumer group of its own, or run one replica"
    ),
    "frames-dropped": "a proxy between client and bridge loses frames: it must pass on all bytes",
    "idle-cut": (
        "raise the idle time-out of the ingress or load balancer to 60 s or more (nginx: proxy-read-timeout; HAProxy: "
        "timeout tunnel), or lower WSBRIDGE_PING_INTERVAL"
    ),
    "held-back": (
        "turn off buffering in the ingress (nginx: proxy_buffering off); if it is off, look at the CPU of the bridge "
        "and of this machine"
    ),
    "lost": "run the command above against the bridge",
    "twice": "does a publisher or a second topic use another source or id? WSBRIDGE_DEDUPE_TTL bounds the redeliveries",
    "out-of-order": "publish with the user as partition key, and read the topic with one consumer group",
    "altered": "a proxy or a sidecar changes the data of events",
    "wrong-user": "a proxy mixes up connections, or a token is for another user: find the cause before anything else",
    "gap-unexplained": "did a replica or Redis restart or lose its data? See their logs at that time",
    "protocol": "does another server answer at --url? Otherwise please report it as a bug of the bridge",
    "during-failed": "see the output of the command",
    "during-unfinished": "raise --during-limit",
    "nothing-verified": "raise --seconds: no event was published while a client was connected",
}
WARNINGS = {
    "history-lost": "with WSBRIDGE_REDIS_URL a restart causes no gap; without it, pages must load their state again",
    "separate-histories": "expected if each replica has its own consumer group; with WSBRIDGE_REDIS_URL clients resume",
    "gaps": "pages must load their state again; WSBRIDGE_HISTORY_TTL and WSBRIDGE_HISTORY_SIZE are the limits",
    "late": "see the lag of the consumer group, its rebalances, and event.retried in the log of the bridge",
    "dark": "is there always a replica that is ready? See docs/replicas.md",
    "connections-lost": "a crash, a proxy or the network ended connections; wsbridge itself sends a close frame",
}


class Finding(NamedTuple):
    """A code of the tables above, and the evidence."""

    code: str
    text: str

    @property
    def is_failure(self) -> bool:
        return self.code in FAILURES

    @property
    def cure(self) -> str:
        return (FAILURES | WARNINGS)[self.code]
