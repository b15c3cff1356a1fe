"""Several finished runs that answer as one.

Open `members` first (which runs they are), then `ensemble` (their mean).
"""
