"""Whether one method is better than another: intervals from seeds and images."""
