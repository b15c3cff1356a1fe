"""The physics of strong lensing as pure functions of tensors; angles in arcsec.

Knows tensors alone. Open `profiles` first.
"""
