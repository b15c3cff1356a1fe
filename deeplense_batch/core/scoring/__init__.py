"""Scores and figures of predictions: arrays in, numbers and pictures out; open `metrics` first."""
