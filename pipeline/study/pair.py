"""The two networks that the study compares, whatever else models/ holds."""

from models import NETWORKS

PLAIN, NORMED = "simple_mlp", "batchnorm_mlp"
PAIR = (PLAIN, NORMED)
LABELS = {PLAIN: "without batch norm", NORMED: "with batch norm"}
COLORS = {key: NETWORKS[key].color for key in PAIR}
MARKERS = {key: NETWORKS[key].marker for key in PAIR}
RUN = ["network", "seed"]  # what identifies a training
