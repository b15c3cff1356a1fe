"""The one training loop, and what it is put together from.

Knows tasks, models and data. Open `setup` first (what a job becomes), then `trainer` (the loop).
"""
