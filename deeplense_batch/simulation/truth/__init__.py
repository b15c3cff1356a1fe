"""What is behind simulated images: maps, numbers, and how visible the substructure is.

Only the verb ``truth`` and the scoring of runs import it. Open `maps` first.
"""
