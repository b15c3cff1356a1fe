"""Scores and figures of several predicted numbers, and of the posteriors behind them.

Open `coverage` first: whether error bars are as wide as the errors.
"""
