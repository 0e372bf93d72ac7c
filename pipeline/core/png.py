"""Renders a matplotlib figure."""

import io

from matplotlib.figure import Figure


def to_png(figure: Figure) -> bytes:
    """Return the figure as a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return png.getvalue()
