"""What a comparison is written as: tables, a page, figures."""

__all__ = ["charts", "markdown", "tables"]
