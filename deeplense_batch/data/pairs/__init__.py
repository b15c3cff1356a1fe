"""Pairs: images beside the poorer images of the same sky that a network is given to make them.

Open `pair_arrays` first, what shards of pairs hold more than others.
"""
