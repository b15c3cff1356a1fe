"""What lens images look like, in numbers that need no network: rings, spectra and peaks.

All take (N, H, W), channels averaged, and give a number or a curve for each image.
"""
