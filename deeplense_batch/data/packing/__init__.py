"""From sources to shards, and back.

Open `pack` first.
"""
