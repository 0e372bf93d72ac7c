"""Finds the file that --model names: a path, or a model in MLflow's registry."""

from pathlib import Path


def resolve(model: str) -> Path:
    """Return the path of an ONNX file; one in the registry is downloaded first.

    model: a path, or models:/NAME@ALIAS or models:/NAME/VERSION, looked up in MLFLOW_TRACKING_URI.

    Raises:
        ValueError: the registry does not have it, or it is not one ONNX file.
    """
    if not model.startswith("models:/"):
        return Path(model)
    from mlflow.artifacts import download_artifacts  # a server of a file needs no MLflow
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(download_artifacts(artifact_uri=model))
    except MlflowException as error:
        raise ValueError(f"MLflow does not give {model}: {error}") from error
    files = list(folder.rglob("*.onnx"))
    if len(files) != 1:
        raise ValueError(f"{model} must hold one ONNX file, but holds {len(files)}")
    return files[0]
