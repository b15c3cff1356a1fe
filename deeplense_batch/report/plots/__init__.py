"""The figures of a comparison, each drawn from `results.json`."""
