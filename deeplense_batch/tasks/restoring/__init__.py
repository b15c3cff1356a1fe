"""The parts of restoration: what it is compared with, how images are scored, and figures.

Open `baselines` first.
"""
