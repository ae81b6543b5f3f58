"""WebSocket and Server-Sent Events: the two ways to a browser."""
