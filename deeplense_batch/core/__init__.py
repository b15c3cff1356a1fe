"""What all the rest is built on: recipes, run directories, files, processes, scores.

Knows nothing above it. Open `job` first (what a recipe may say), then `rundir` (what a run
directory holds).
"""
