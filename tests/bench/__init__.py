"""Measurements, each as a ratio to, or a difference from, a baseline of the same run."""
