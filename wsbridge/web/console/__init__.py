"""The console for operators at `/console`: its page, and the stream that feeds it.

`replica.py` describes one replica, `stream.py` asks all of them once a second. docs/console.md has the format.
"""
