"""What a finished run is good for: predictions, explanations, an exported network.

Knows training and all below it. Open `trained` first (a run, opened).
"""
