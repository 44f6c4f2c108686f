"""What an evaluation found, and the ways to see it."""
