"""A lens-finding set: lenses and the galaxies and stars that resemble them, in one survey.

Nobody else imports it but the table of kinds in `simulate`. Open `lens_finding` first.
"""
