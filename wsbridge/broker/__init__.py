"""The broker: gives an event its position and publishes it, in one step; keeps each user's history."""
