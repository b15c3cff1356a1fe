"""Slices of splits: where they begin and end, and which of their images stand for all."""
