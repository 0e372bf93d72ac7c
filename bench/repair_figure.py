"""Draws accuracies over time, with the kind of images, the alarms and the swaps."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from matplotlib.figure import Figure

from models import NETWORKS
from pipeline.core.params import load_params


class Moment(NamedTuple):
    """What was seen at a time: the accuracies by served model, the version that was served, its
    alarms so far and its drift rank; seconds: since the start."""

    seconds: float
    phase: str
    accuracies: dict[str, float]
    version: str
    alarms: float
    rank: float

    def titled(self) -> dict[str, float]:
        """Return the accuracies by what a reader calls the models."""
        key = load_params().export.network
        titles = {f"trained_{key}": network.title for key, network in NETWORKS.items()}
        titles[f"trained_{key}"] += ", left alone"
        titles |= {key: f"{NETWORKS[key].title}, repaired"}
        return {titles[name]: accuracy for name, accuracy in self.accuracies.items()}


def draw(moments: Sequence[Moment]) -> Figure:
    """Return the figure of all moments of a stream."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    seconds = [moment.seconds for moment in moments]
    key = load_params().export.network
    styles = {f"trained_{name}": (network.color, 2, "-") for name, network in NETWORKS.items()}
    styles |= {f"trained_{key}": (NETWORKS[key].color, 2, ":"), key: (NETWORKS[key].color, 3, "-")}
    for name, title in zip(moments[0].accuracies, moments[0].titled(), strict=True):
        color, width, style = styles[name]
        values = [moment.accuracies[name] for moment in moments]
        axes.plot(seconds, values, style, color=color, lw=width, label=title)
    phases = [list(group) for _, group in groupby(moments, lambda moment: moment.phase)]
    for place, phase in enumerate(phases):
        begin, end = phase[0].seconds, phase[-1].seconds
        if place % 2:
            axes.axvspan(begin, end, color="0.93", zorder=0)
        axes.text((begin + end) / 2, 1.02, phase[0].phase, ha="center")
    alarms = [b.seconds for a, b in pairwise(moments) if b.alarms > a.alarms]
    axes.plot(alarms, [0.02] * len(alarms), "^", color="#E69F00", label="alarm")
    swaps = [b.seconds for a, b in pairwise(moments) if b.version != a.version]
    for number, swap in enumerate(swaps):
        axes.axvline(swap, color="0.4", ls="--", lw=1, label="swap" if not number else None)
    axes.set_xlabel("seconds")
    axes.set_ylabel("accuracy of the last 400 images")
    axes.set_ylim(0, 1.1)
    axes.set_xlim(0, seconds[-1])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower center", ncols=5, bbox_to_anchor=(0.5, -0.28), frameon=False)
    return figure
