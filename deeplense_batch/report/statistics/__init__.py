"""Intervals and tests: arrays in, numbers out; nothing here knows of runs or files."""
