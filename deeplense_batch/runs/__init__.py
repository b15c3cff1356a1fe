"""One run from start to end: planned, checked, started, carried out, resumed.

Knows everything below it. Open `plan` first, then `training_run`.
"""
