"""What lies in a folder, zip or tar, and the samples, classes and splits that its names say.

Below catalogues and sources, which both make a `Listing`.
"""
