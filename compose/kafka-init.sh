#!/bin/sh
# Makes the topic $TOPIC at the broker $BROKER, and commits its end for the consumer groups in the arguments. A group has
# no offset before its first event, and would skip events that are published while it does not read. A group that has
# offsets keeps them, so the script may run again.
set -eu
bin=${KAFKA_BIN:-/opt/kafka/bin}

"$bin/kafka-topics.sh" --bootstrap-server "$BROKER" --create --if-not-exists --topic "$TOPIC" \
    --partitions "$PARTITIONS" --replication-factor 1

for group in "$@"; do
    known=$("$bin/kafka-consumer-groups.sh" --bootstrap-server "$BROKER" --describe --offsets --group "$group" || true)
    case $known in
    *" $TOPIC "*) echo "$group has offsets" ;;
    *)
        "$bin/kafka-consumer-groups.sh" --bootstrap-server "$BROKER" --topic "$TOPIC" \
            --reset-offsets --to-latest --execute --group "$group"
        ;;
    esac
done
