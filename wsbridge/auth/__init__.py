"""Who may connect and who may call which route: tokens, keys, origins, access."""
