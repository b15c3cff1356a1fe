"""Images drawn from a generator, and how near they are to real ones.

Open `sample` first, then `measure`.
"""
