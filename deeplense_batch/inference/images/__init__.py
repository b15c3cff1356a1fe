"""Images that a trained network is given, and whether they suit it.

Open `inputs` first.
"""
