"""A lens-finding set: lenses and the galaxies and stars that resemble them, in one survey.

Only the table of kinds in `simulate` imports it. Open `lens_finding` first.
"""
