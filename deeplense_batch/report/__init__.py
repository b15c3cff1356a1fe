"""What a comparison is written as: tables, pages, figures."""

__all__ = [
    "charts",
    "compose",
    "costs",
    "hardest",
    "latex",
    "lines",
    "markdown",
    "pictures",
    "scores",
    "tables",
    "web",
]
