"""One training step, its state and its optimizer."""
