"""Small array operations that models, losses and data share."""
