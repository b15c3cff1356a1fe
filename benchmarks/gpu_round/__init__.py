"""A round of checks and measurements on one GPU, of minutes; `benchmarks/README.md` says how."""
