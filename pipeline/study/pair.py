"""The two networks that every experiment compares, and the type of the tables that it returns."""

import pandas as pd

from models import NETWORKS

Tables = dict[str, pd.DataFrame]  # by name
PLAIN, NORMED = "simple_mlp", "batchnorm_mlp"
PAIR = (PLAIN, NORMED)
LABELS = {PLAIN: "without batch norm", NORMED: "with batch norm"}
COLORS = {key: NETWORKS[key].color for key in PAIR if key in NETWORKS}
MARKERS = {key: NETWORKS[key].marker for key in PAIR if key in NETWORKS}
RUN = ["network", "seed"]  # what identifies a training
