"""What a model's weights are, and their spectra."""
