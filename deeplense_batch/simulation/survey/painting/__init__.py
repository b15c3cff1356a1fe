"""Real galaxies in simulated lenses: behind them, as sources (`stamps`), and as lenses themselves.

Open `painted_set` first: arcs on the galaxies of a set of shards (`canvas`), whose light is
measured in their images (`measured_light`).
"""
