"""One run from start to end: planned, checked, carried out, resumed.

Knows everything below. Open `plan` first, then `training_run`.
"""
