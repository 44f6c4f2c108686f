"""Power laws fitted to the tails of spectra, and how far to trust them."""
