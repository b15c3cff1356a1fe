"""Slices of splits: where they begin and end."""
