"""Simulated pairs: an image, and the poorer image of the same sky that a network is given.

Open `pair_presets` first, which says how the second is made of the first.
"""
