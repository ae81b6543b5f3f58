"""The two transports to a browser: WebSocket and Server-Sent Events."""
