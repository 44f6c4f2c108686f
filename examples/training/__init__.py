"""What a run is, and how it is trained and measured."""
