"""Numbers behind an image, and how sure a network is of them.

Open `quantities` first (which numbers), then `posterior` (what is kept of each image).
"""
