"""Shards, and how their images become batches on the device.

Knows `core`. Open `shards` first, which specifies the files.
"""
