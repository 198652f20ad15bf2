"""What a network has learned: pure functions of its weights, features and predictions."""
