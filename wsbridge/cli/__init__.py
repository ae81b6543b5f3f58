"""The `wsbridge` command."""
