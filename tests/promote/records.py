"""What MLflow holds of a training and of its certificate, as small as the cards allow."""

CERTIFICATE = {
    "passed": True,
    "images": 320,
    "accuracy": {"pytorch": 0.9, "file": 0.9, "server": 0.9},
    "max_abs_difference": {"file": 1.5e-6, "server": 2.5e-6},
    "flipped": {"file": 0, "server": 3},
    "margin": {"proven_images": 318},
    "model.sha256": "1" * 64,
    "weights.sha256": "0" * 64,
}
TAGS = {
    "weights.sha256": "0" * 64,
    "data.md5": "126198369362df7c54984cf13f63be96.dir",
    "git.commit": "2" * 40,
    "git.dirty": "false",
}
PARAMS = {"network": "batchnorm_mlp", "epochs": "2", "lr": "0.01", "seed": "7"}
METRICS = {"test_loss": 0.125, "test_accuracy": 0.9}
