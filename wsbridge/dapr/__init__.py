"""The routes for the Dapr sidecar: its subscriptions, and the deliveries that it posts.

A delivery goes through `bulk` (body to entries), `envelope` (entry to message) and `routing` (message to event).
"""
