"""Draws artifacts/certify/certificate.png: how far the backends' logits are apart."""

from typing import Any

from matplotlib.figure import Figure

# Color and marker of each kind of images. Source of the colors: Okabe and Ito, "Color Universal
# Design", 2008, https://jfly.uni-koeln.de/color
KINDS = {
    "test": ("#0072B2", "o"),
    "all 0, all 255": ("#000000", "s"),
    "single pixels": ("#E69F00", "D"),
    "noise": ("#009E73", "^"),
    "extremes": ("#D55E00", "v"),
}


def draw_certificate(rows: list[dict[str, Any]], limit: float) -> Figure:
    """Return a figure with each backend's largest differences from PyTorch in float32 and float64.

    rows: the certificate's `backends`. On the logarithmic axis a difference of 0 has no mark.
    """
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    panels = figure.subplots(ncols=2, sharey=True)
    backends = list(dict.fromkeys(row["backend"] for row in rows))
    titles = {
        "max_abs_difference": "from PyTorch in float32",
        "float64_error": "from PyTorch in float64, the reference",
    }
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for kind, (color, marker) in KINDS.items():
            marked = [row for row in rows if row["images"] == kind and row[column]]
            x = [row[column] for row in marked]
            y = [backends.index(row["backend"]) for row in marked]
            axes.plot(x, y, marker, color=color, label=kind, markersize=5)
        axes.set(xscale="log", xlabel="largest difference of a logit")
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
    panels[0].axvline(limit, color="grey", linestyle="--", label="limit on test images")
    panels[0].set_yticks(range(len(backends)), backends)
    panels[0].invert_yaxis()
    figure.suptitle("How far each backend's logits are from PyTorch's")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure
