"""One file, read as an image and checked: FITS, arrays and pictures, however damaged.

Open `images` first.
"""
