"""Domain adaptation: a network learns to see images without labels as those that have labels.

Open `adapted` first: what a network gives in training, and which features are made alike.
"""
