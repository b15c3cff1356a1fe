"""Shards: how they are packed from users' images, read, and turned into batches on the device.

Knows `core`. Open `shards` first, which specifies the files.
"""
