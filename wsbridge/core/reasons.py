"""Why an event was not accepted, in one word each.

The words are in logs, in answers to the sidecar and in labels of metrics. All are documented in docs/protocol.md.
"""

from enum import StrEnum


class Retry(StrEnum):
    """The event cannot be stored now. The sidecar delivers it again."""

    QUEUE_FULL = "queue_full"  # as many entries as WSBRIDGE_QUEUE_SIZE allows
    QUEUE_BYTES = "queue_bytes"  # as many bytes as WSBRIDGE_QUEUE_MAX_BYTES allows
    REDIS_UNAVAILABLE = "redis_unavailable"  # Redis did not confirm the append; the text says why
    FOLLOWS_RETRY = "follows_retry"  # an earlier event of the same user in this delivery is retried
    ABANDONED = "abandoned"  # the sidecar closed the connection before the whole delivery was stored
    BODY_TOO_LARGE = "body_too_large"  # a bulk delivery that is too large to be read
    BODY_TIMEOUT = "body_timeout"  # the delivery did not arrive in time
    INTERNAL = "internal"  # an internal error; `internal.error` in the log has it


class Drop(StrEnum):
    """The event can never be accepted. The sidecar passes it to the dead-letter topic, if there is one."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    BAD_UTF8 = "bad_utf8"
    UTF16 = "utf16"  # text in UTF-16 or UTF-32
    SCHEMA_REGISTRY = "schema_registry"  # Avro, Protobuf or JSON in the wire format of a schema registry
    NO_DATA = "no_data"
    NO_USER = "no_user"
    BAD_USER = "bad_user"
    TOO_LARGE = "too_large"
    EXPIRED = "expired"
    UNKNOWN_TOPIC = "unknown_topic"  # not in WSBRIDGE_TOPICS; answered 404, which a sidecar treats as a drop
