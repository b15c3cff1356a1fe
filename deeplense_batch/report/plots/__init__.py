"""The figures of a report, each drawn from the numbers that `figures.json` keeps.

Open `pictures` first, which names them all.
"""
