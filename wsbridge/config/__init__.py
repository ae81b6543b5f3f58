"""Settings: their types, how the environment becomes them, and which valid ones are weak."""
