"""What figures show, read from their artists."""

from __future__ import annotations

from matplotlib.text import Text


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def drawn(figure):
    """Draw, and check that nothing reaches beyond the edge."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0
    assert (box.max <= figure.get_size_inches()).all()
    return figure


def explained(figure):
    """Texts of the legend."""
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def line_of(axes, marker):
    """Lines of a panel that have this marker."""
    return [line for line in axes.lines if line.get_marker() == marker]
