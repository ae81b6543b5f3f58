"""Logs and metrics. The log is written by its own thread, within a budget of lines and without secrets."""
