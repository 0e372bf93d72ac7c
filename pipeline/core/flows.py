"""Runs a Prefect flow, and turns its failure into a user's error."""

import logging
import os
from collections.abc import Callable

import httpx
from prefect import State
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipeline.core.prefect_server import PrefectServer, wait_for_api


def run_flow(flow: Callable[..., State]) -> None:
    """Run a flow on the server that PREFECT_API_URL names, or else on a temporary one.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: the flow failed; the message is the failed task's.
    """
    # After Ctrl-C, Prefect would print "Crash detected!".
    log = logging.getLogger("prefect.flow_runs")
    log.addFilter(lambda line: "aborted by an interrupt signal" not in line.getMessage())
    given = PREFECT_API_URL.value()
    server = None if given else PrefectServer()
    address = server.address if server else given
    os.environ["PREFECT_API_URL"] = address  # Prefect's threads do not see temporary settings
    try:
        with temporary_settings({PREFECT_API_URL: address}):
            wait_for_api(server)
            state = flow(return_state=True)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise ConnectionError(
            f"Prefect at {address} failed: {error!r}: start it, or unset PREFECT_API_URL to use a "
            "temporary server, and run `dvc repro` again"
        ) from error
    if not state.is_completed():
        raise ValueError(state.message)
