"""Networks that give a better image for an image, some `ratio` times as many pixels along a side.

Each takes (B, C, h, w) and gives (B, C, ratio x h, ratio x w). Open `edsr` first, the shortest.
"""
