"""The one training loop, and how a job becomes a network, data and an optimiser.

Knows tasks, models and data. Open `setup` first, then `trainer` (the loop).
"""
