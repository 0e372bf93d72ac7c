"""Resolves --model to a file: a path, or a model in MLflow's registry."""

from pathlib import Path

EXPORTED = "artifacts/*/model.onnx"  # written by `dvc repro export`, below the project root


def resolve(model: str) -> Path:
    """Return the path of an ONNX file, downloading it first if it is in the registry.

    model: a path, `EXPORTED`, or models:/NAME@ALIAS or models:/NAME/VERSION in the registry at
        MLFLOW_TRACKING_URI.

    Raises:
        FileNotFoundError: no model has been exported.
        ValueError: several models have been exported, or the registry does not have the model or
            has other than one ONNX file for it.
    """
    if model == EXPORTED:
        return exported()
    if not model.startswith("models:/"):
        return Path(model)
    from mlflow.artifacts import download_artifacts  # serving a file does not need MLflow
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(download_artifacts(artifact_uri=model))
    except MlflowException as error:
        raise ValueError(f"cannot download {model} from MLflow: {error}") from error
    files = list(folder.rglob("*.onnx"))
    if len(files) != 1:
        raise ValueError(f"{model} must contain one ONNX file, got {len(files)}")
    return files[0]


def exported() -> Path:
    """Return the path of the project's exported model; see `resolve`."""
    project = Path(__file__).resolve().parents[1]
    found = sorted(project.glob(EXPORTED))
    if not found:
        raise FileNotFoundError(f"{project / EXPORTED} not found: run `dvc repro export`")
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(project)) for path in found)
        raise ValueError(f"several models have been exported, choose one with --model: {names}")
    return found[0]
