"""The JSON bodies of inference: requests, responses and errors of the Open Inference Protocol."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_ROWS = 1024  # in one request
INTERNAL_ERROR = "internal error, see the log"
# Generators of clients drop an array whose items are not described.
Size = Annotated[int, Meta(le=2**63 - 1)]
Numbers = Annotated[list[Any], Meta(extra_json_schema={"items": {}})]


class InputParameters(Struct, frozen=True):
    """Encoding of an input."""

    binary_data_size: Annotated[
        int | None, Meta(description="bytes of raw data after the JSON")
    ] = None
    shared_memory_region: Annotated[str | None, Meta(description="not supported")] = None


class RequestParameters(Struct, frozen=True):
    """Encoding of the response, and how to count the request."""

    binary_data_output: Annotated[
        bool | None, Meta(description="return all outputs as raw bytes")
    ] = None
    drift: Annotated[
        bool | None, Meta(description="false: do not measure drift by this request")
    ] = None
    sample: Annotated[bool | None, Meta(description="false: do not sample this request")] = None


class OutputParameters(Struct, frozen=True):
    """Encoding of an output."""

    binary_data: Annotated[
        bool | None, Meta(description="return raw bytes; the default is binary_data_output")
    ] = None
    classification: (
        Annotated[
            int, Meta(ge=0, description="return the highest values as strings VALUE:INDEX:LABEL")
        ]
        | None
    ) = None
    shared_memory_region: Annotated[str | None, Meta(description="not supported")] = None


class InputFields(Struct, kw_only=True):
    """What an input has besides its name."""

    datatype: Annotated[str, Meta(examples=["FP32"])]
    shape: Annotated[
        tuple[Size, ...], Meta(description=f"a batch has up to {MAX_ROWS} rows", examples=[[2, 3]])
    ]
    data: Annotated[
        Numbers | UnsetType | None,
        Meta(description="the numbers in row-major order, flat or nested as shape"),
    ] = UNSET
    parameters: InputParameters | None = None


class InputTensor(InputFields):
    """One input of the model; GET /v2/models/{name} lists them."""

    name: str


class RequestedOutput(Struct):
    """An output to return."""

    name: str
    parameters: OutputParameters | None = None


class RequestOptions(Struct):
    """What a request has besides its inputs."""

    outputs: Annotated[
        list[RequestedOutput] | None, Meta(description="all outputs if empty or missing")
    ] = None
    id: Annotated[str | None, Meta(description="echoed in the response")] = None
    parameters: RequestParameters | None = None


class InferenceRequest(RequestOptions, kw_only=True):
    """An inference request."""

    inputs: list[InputTensor]


class OutputTensorParameters(Struct):
    """Size of a raw output."""

    binary_data_size: Annotated[int, Meta(description="bytes of raw data after the JSON")]


class OutputTensor(Struct, omit_defaults=True):
    """One output of the model."""

    name: str
    datatype: str
    shape: Annotated[tuple[int, ...], Meta(examples=[[2, 3]])]
    data: Annotated[
        Numbers | UnsetType, Meta(description="the numbers in row-major order, flat")
    ] = UNSET
    parameters: OutputTensorParameters | UnsetType = UNSET


class InferenceResponse(Struct, omit_defaults=True):
    """An inference response."""

    model_name: str
    model_version: Annotated[str, Meta(description="first 12 digits of the model file's SHA-256")]
    outputs: list[OutputTensor]
    id: str | None = None


class Error(Struct):
    """Why the request failed."""

    error: str
