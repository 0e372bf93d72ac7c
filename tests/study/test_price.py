import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pipeline.core.params import StudyParams
from pipeline.data.corruptions import CORRUPTIONS, PHOTOMETRIC
from pipeline.data.load import Dataset, load_dataset
from pipeline.data.tensors import Tensors, scale_pixels
from pipeline.study import centering, price
from pipeline.study.claims import CLAIMS
from pipeline.study.experiments import Tables
from pipeline.study.markdown import centering_gains, kinds, price_rows
from pipeline.study.pair import NORMED, PAIR, PLAIN
from pipeline.train.loop import evaluate, initial_network


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_dataset()


@pytest.fixture
def networks() -> dict[str, nn.Module]:
    return {key: initial_network(key, seed=0) for key in PAIR}


def test_no_image_that_statistics_come_from_is_judged(mnist: Dataset) -> None:
    labels = mnist.test_labels[:2000]
    usual, sevens, judged = price.choose(labels)
    assert len(usual) == len(sevens) == len(set(sevens)) == price.SAMPLE
    assert (labels[sevens] == 7).mean() == 0.5
    assert set(judged) == set(range(2000)) - set(usual) - set(sevens)


def test_the_trained_networks_are_judged_as_they_are(
    mnist: Dataset, networks: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price, "KINDS", {"clean": np.copy, "blur": CORRUPTIONS["blur"]})
    before = copy.deepcopy({key: network.state_dict() for key, network in networks.items()})
    table = price.measure(networks, 0, mnist, torch.device("cpu"))["price"]
    after = {key: network.state_dict() for key, network in networks.items()}
    torch.testing.assert_close(after, before, rtol=0, atol=0)

    images, labels = price.test_images(mnist)
    *_, judged = price.choose(labels)
    x, y = scale_pixels(CORRUPTIONS["blur"](images))[judged], torch.from_numpy(labels[judged])
    found = table[(table["corruption"] == "blur") & (table["variant"] == "as trained")]
    for key, accuracy in found.set_index("network")["test_accuracy"].items():
        assert accuracy == evaluate(networks[str(key)], x, y)[1]


def test_every_corruption_has_a_claim(study_tables: Tables) -> None:
    assert set(price.CORRUPTED) == set(CORRUPTIONS)
    assert set(study_tables["price"]["corruption"]) == {"clean", *CORRUPTIONS}
    keys = {claim.key for claim in CLAIMS if claim.experiment == "price"}
    assert keys == {f"loss_{name}" for name in CORRUPTIONS}


def test_a_loss_is_counted_from_the_clean_images_as_trained() -> None:
    accuracies = {  # on clean and on foggy images; on all others as on clean ones
        (PLAIN, "as trained"): (0.95, 0.94),
        (NORMED, "as trained"): (0.98, 0.3),
        (NORMED, "re-estimated"): (0.97, 0.96),
        (NORMED, "half sevens"): (0.1, 0.1),
        (NORMED, "half sevens, corrected"): (0.2, 0.2),
    }
    table = pd.DataFrame(
        {
            "network": key,
            "variant": variant,
            "seed": seed,
            "corruption": name,
            "test_accuracy": foggy if name == "fog" else clean,
        }
        for (key, variant), (clean, foggy) in accuracies.items()
        for name in ("clean", *CORRUPTIONS)
        for seed in range(2)
    )
    assert price_rows({"price": table})[3] == ["foggy", "94%", "30%", "96%", "10%", "20%"]
    values = {
        claim.key: claim.values({"price": table}) for claim in CLAIMS if claim.experiment == "price"
    }
    means = {key: value.groupby("network").mean().to_dict() for key, value in values.items()}
    assert means["loss_fog"] == pytest.approx({PLAIN: 1, NORMED: 68})
    assert means["loss_blur"] == pytest.approx({PLAIN: 0, NORMED: 0})
    gains = price.re_estimation_gains({"price": table})
    assert gains["fog"].tolist() == pytest.approx([66, 66])
    assert gains["blur"].tolist() == pytest.approx([-1, -1])


def test_centered_images_are_those_minus_the_mean_training_image(
    small_dataset: Dataset, study_params: StudyParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Tensors] = []
    judged: list[Tensor] = []

    def learn(_key: str, *others: object) -> tuple[nn.Module, None]:
        learned.append(others[-1])  # type: ignore[arg-type]
        return nn.Identity(), None

    def evaluate(_network: nn.Module, x: Tensor, _labels: Tensor) -> tuple[float, float]:
        judged.append(x)
        return 0.0, 0.0

    monkeypatch.setattr(centering, "learn", learn)
    monkeypatch.setattr(centering, "evaluate", evaluate)
    centering.measure(0, study_params, small_dataset, torch.device("cpu"))
    for usual, centered in (learned[:2], learned[2:]):  # without and with batch normalization
        mean = usual.train_x.mean(dim=0)
        torch.testing.assert_close(centered.train_x, usual.train_x - mean)
        torch.testing.assert_close(centered.test_x, usual.test_x - mean)
    kinds = 1 + len(PHOTOMETRIC)
    for x, centered_x in zip(judged[:kinds], judged[kinds : 2 * kinds], strict=True):
        torch.testing.assert_close(centered_x, x - learned[0].train_x.mean(dim=0))


def test_centering_does_harm_where_the_whole_interval_is_below_0() -> None:
    table = pd.DataFrame(
        {
            "network": key,
            "images": images,
            "corruption": kind,
            "seed": seed,
            "test_accuracy": 0.9 - loss * (images == "centered") * (key == PLAIN),
        }
        for key in PAIR
        for images in ("usual", "centered")
        for kind in PHOTOMETRIC
        for seed, loss in enumerate(
            {"fog": (0.1, 0.2, 0.15), "blur": (0.1, -0.1, 0.2)}.get(kind, (0, 0, 0))
        )
    )
    assert kinds(centering_gains({"centering": table}, PLAIN), "less") == "foggy"
    assert kinds(centering_gains({"centering": table}, PLAIN), "more") == "none"
    assert kinds(centering_gains({"centering": table}, NORMED), "less") == "none"
