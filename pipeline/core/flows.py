"""Runs a Prefect flow, and turns its failure into a user's error."""

from collections.abc import Callable

import httpx
from prefect import State, get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, temporary_settings


def run_flow(flow: Callable[..., State]) -> None:
    """Run a flow on the server that PREFECT_API_URL names, or else on a temporary one.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: the flow failed; the message is the failed task's.
    """
    address = PREFECT_API_URL.value() or "its temporary server"
    try:
        # The client starts the temporary server; by default, it would wait for minutes.
        with get_client(httpx_settings={"timeout": 5}, sync_client=True) as client:
            address = str(client.api_url)
            if problem := client.api_healthcheck():
                raise problem
        with temporary_settings({PREFECT_API_URL: address}):  # or each worker starts one of its own
            state = flow(return_state=True)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise ConnectionError(
            f"Prefect at {address} failed: {error!r}: start it, or unset PREFECT_API_URL to use a "
            "temporary server, and run `dvc repro` again"
        ) from error
    if not state.is_completed():
        raise ValueError(state.message)
