"""Models beside one another, and beside their quality."""
