"""What spectral control buys: public claims, each against its controls."""
