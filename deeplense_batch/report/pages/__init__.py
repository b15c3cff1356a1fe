"""A comparison as a page: one content (`compose`), rendered as HTML, Markdown and LaTeX."""
