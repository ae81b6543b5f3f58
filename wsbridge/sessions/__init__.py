"""One session for each connected tab: admission, registry, bus and broadcaster, replay, heartbeat, drain."""
