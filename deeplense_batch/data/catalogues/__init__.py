"""Tables as sources: a row an object, with its files, its label and all else that is known.

Open `catalogue` first.
"""
