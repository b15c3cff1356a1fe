"""Lens images by ray tracing, with their truth, as shards.

Knows `lensing` and `data`. Open `simulate` first (the kinds of sets), then `scenes` (what is
drawn), `rays` (the physics) and `pipeline` (how a GPU is kept busy).
"""
