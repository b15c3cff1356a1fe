"""What a comparison is written as: tables, pages, figures."""

__all__ = ["charts", "latex", "markdown", "scores", "tables", "web"]
