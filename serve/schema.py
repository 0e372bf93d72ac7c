"""The JSON of an inference request and its answer as /docs shows them; protocol.py reads them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from serve.protocol import MAX_IMAGES


class ImagesTensor(BaseModel):
    """One to 1,024 images of 28 × 28 bytes."""

    name: Literal["images"]
    datatype: Literal["UINT8"]
    shape: list[int] = Field(
        description=f"[N, 28, 28] with N from 1 to {MAX_IMAGES}", examples=[[1, 28, 28]]
    )
    data: list[Any] | None = Field(
        None,
        description="N × 784 whole numbers from 0 (background) to 255 (ink), flat or nested",
        examples=[[0] * 784],
    )
    parameters: dict[str, Any] | None = Field(
        None, description="binary_data_size: so many raw bytes follow the JSON instead of data"
    )


class RequestedOutput(BaseModel):
    """An output to answer with."""

    name: Literal["logits", "probabilities"]
    parameters: dict[str, Any] | None = Field(
        None, description="binary_data: true for raw bytes behind the JSON"
    )


class InferenceRequest(BaseModel):
    """A request of the Open Inference Protocol."""

    id: str | None = Field(None, description="comes back in the answer")
    inputs: list[ImagesTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] | None = Field(None, description="both if not given")
    parameters: dict[str, Any] | None = Field(
        None, description="binary_data_output: true for all outputs as raw bytes"
    )


class OutputTensor(BaseModel):
    """Ten numbers an image."""

    name: Literal["logits", "probabilities"]
    datatype: Literal["FP32"]
    shape: list[int] = Field(examples=[[1, 10]])
    data: list[float] | None = Field(None, description="N × 10 numbers, flat")
    parameters: dict[str, Any] | None = None


class InferenceResponse(BaseModel):
    """An answer of the Open Inference Protocol."""

    model_name: str
    model_version: str = Field(description="the beginning of the model file's SHA-256")
    id: str | None = None
    outputs: list[OutputTensor]


class Error(BaseModel):
    """Why there is no answer."""

    error: str
