"""What the papers published, and their claims held against our runs."""
