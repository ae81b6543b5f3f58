"""`wsbridge conformance`: proves that a client in any language follows docs/protocol.md."""
