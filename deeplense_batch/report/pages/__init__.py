"""The pages of a report in HTML, Markdown and LaTeX, and the list of their figures (`compose`).

All three render one list of columns, `columns.model_columns`. Open `markdown` first.
"""
