"""The parts of an evaluation: images that are labelled or drawn, and what its result says.

Open `labelled_images` first.
"""
