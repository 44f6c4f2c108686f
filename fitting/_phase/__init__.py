"""The phases of training: the evidence, the cuts, and the verdict on one spectrum or several."""
