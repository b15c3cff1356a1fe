"""What a comparison is written as: tables, a page, figures."""

__all__ = ["charts", "compose", "costs", "hardest", "lines", "markdown", "pictures", "tables"]
