"""What users have: folders, archives, arrays, FITS and tables of labels, read as labelled images.

Open `sources` first.
"""
