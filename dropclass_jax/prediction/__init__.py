"""Predict images and frames of a video, and write the predictions."""
