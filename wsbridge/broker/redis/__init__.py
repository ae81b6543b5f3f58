"""The broker on Redis or Valkey: one history for all replicas."""
