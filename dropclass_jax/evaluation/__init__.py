"""From logits to scores: inference, metrics and the loop over a split."""
