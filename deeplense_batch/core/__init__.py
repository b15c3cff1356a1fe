"""The ground: recipes, run directories, files, processes and scores; it knows nothing above it.

Open `job` first (what a recipe may say), then `rundir` (what a run directory holds).
"""
