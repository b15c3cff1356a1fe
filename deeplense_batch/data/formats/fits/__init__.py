"""FITS files: which of their extensions are the image, and what headers say of it.

Open `extensions` first.
"""
