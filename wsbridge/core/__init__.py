"""Events, their positions, and the messages on the wire. Imports nothing of wsbridge."""
