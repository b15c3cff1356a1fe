"""Files that hold many images each, with their labels.

Open `sets` first.
"""
