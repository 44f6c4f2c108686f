"""Which runs an experiment has, and how the missing ones are trained and kept."""
