"""From shards to batches: which images an epoch takes in which order, and how they are read.

Open `loader` first.
"""
