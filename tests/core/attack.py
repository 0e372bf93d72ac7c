"""What a page of another site can send to Prefect's API, and what the API must answer."""

from uuid import uuid4

import httpx

EVIL = {"Origin": "http://evil.example", "Content-Type": "application/json"}
STEP = {"prefect.deployments.steps.run_shell_script": {"script": "id"}}


def attack_prefect(address: str) -> None:
    """Send to Prefect's API at this address what would have a worker run a shell command; assert
    that it is refused, and that a browser would not let the page read the answer."""
    with httpx.Client(base_url=address, headers=EVIL) as page:
        asked = {"Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "content-type"
        preflight = page.options("/flows/", headers=asked)
        flow = page.post("/flows/", json={"name": "evil"})
        rebound = page.post("/flows/", json={"name": "evil"}, headers={"Host": "evil.example"})
        # Without a type, no preflight comes first, and Prefect takes the body for JSON.
        simple = httpx.post(
            f"{address}/flows/", content=b'{"name": "evil"}', headers={"Origin": EVIL["Origin"]}
        )
        flow_id = flow.json().get("id", str(uuid4()))
        deployment = {"name": "evil", "flow_id": flow_id, "pull_steps": [STEP]}
        deployed = page.post("/deployments/", json=deployment)
    answers = [preflight, flow, rebound, simple, deployed]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [400, 401, 401, 401, 401], statuses
    assert not any("access-control-allow-origin" in answer.headers for answer in answers)
