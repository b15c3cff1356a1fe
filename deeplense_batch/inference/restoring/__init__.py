"""What a run that restores images is good for: restored sets, and what survives in them.

Open `surviving` first.
"""
