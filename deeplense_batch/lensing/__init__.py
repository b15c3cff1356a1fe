"""The physics of strong lensing as pure functions of tensors, with angles in arcsec.

Knows tensors alone. Open `profiles` first.
"""
