"""What chance makes of a matrix: the law of its bulk, its edge, and what stands out of both."""
