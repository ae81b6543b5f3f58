"""`wsbridge verify`: proves the promise on a running deployment, with events and clients of its own."""
