"""How the simulator was settled and judged against real images; run by hand."""
