"""Runs a Prefect flow, and turns its failure into a user's error."""

import logging
import os
import time
from pkgutil import resolve_name

from pipeline.core.prefect_server import PrefectServer

START_S = 120  # the first start on a machine creates the database


def run_flow(name: str, *arguments: object) -> None:
    """Run a flow on the server that PREFECT_API_URL names, or else on a temporary one.

    name: of the flow, as module:function. Like Prefect it is imported while the server starts.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: the flow failed; the message is the failed task's.
    """
    server = None if os.environ.get("PREFECT_API_URL") else PrefectServer()
    import httpx
    from prefect.exceptions import PrefectException
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    flow = resolve_name(name)
    # After Ctrl-C, Prefect would print "Crash detected!".
    for runs in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(runs).addFilter(
            lambda line: "aborted by an interrupt signal" not in line.getMessage()
        )
    given = PREFECT_API_URL.value()  # a profile of Prefect's may name a server too
    if server and given:
        server.stop()
        server = None
    address = server.address if server else given
    settings = {PREFECT_API_URL: address}
    if server:
        settings[PREFECT_API_AUTH_STRING] = server.auth_string
    # Prefect's threads do not see temporary settings.
    os.environ.update({setting.name: value for setting, value in settings.items()})
    try:
        with temporary_settings(settings):
            wait_for_api(server)
            state = flow(*arguments, return_state=True)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise ConnectionError(
            f"Prefect at {address} failed: {error!r}: start it, set PREFECT_API_AUTH_STRING if it "
            "answers 401, or unset PREFECT_API_URL to use a temporary server, and run `dvc repro` "
            "again"
        ) from error
    if not state.is_completed():
        raise ValueError(state.message)


def wait_for_api(server: PrefectServer | None) -> None:
    """Wait until Prefect's API answers; one that we did not start must do so at once.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    from prefect import get_client

    end = time.monotonic() + START_S
    with get_client(httpx_settings={"timeout": 5}, sync_client=True) as client:
        while problem := client.api_healthcheck():
            if not server or server.process.poll() is not None or time.monotonic() > end:
                raise problem
            time.sleep(0.1)
