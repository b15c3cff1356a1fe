"""What a finished run is good for: predictions, explanations, exports, new images.

Knows training and all below it. Open `trained` first (a run, opened).
"""
