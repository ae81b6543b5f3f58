"""Authentication and authorisation: tokens and their keys, allowed origins, and the access rules of routes.

A connection is identified by a token; a route of the sidecar or of operators is guarded by a shared secret.
"""
