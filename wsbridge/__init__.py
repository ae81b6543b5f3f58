"""The last mile from an event bus to the browser."""

__version__ = "0.1.0"
