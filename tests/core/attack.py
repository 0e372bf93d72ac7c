"""What a page of another site can send to Prefect's API, and how the API must answer."""

from uuid import uuid4

import httpx

EVIL = {"Origin": "http://evil.example"}
STEP = {"prefect.deployments.steps.run_shell_script": {"script": "id"}}


def attack_prefect(address: str) -> None:
    """Send to Prefect's API at this address what would have a worker run a shell command; assert
    that it is refused, and that no browser would let the page read the answer."""
    with httpx.Client(base_url=address, headers=EVIL, timeout=60) as page:
        asked = {"Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "content-type"
        preflight = page.options("/flows/", headers=asked)
        flow = page.post("/flows/", json={"name": "evil"})
        rebound = page.post("/flows/", json={"name": "evil"}, headers={"Host": "evil.example"})
        # Without a content type, no preflight comes first, and Prefect takes the body for JSON.
        simple = page.post("/flows/", content=b'{"name": "evil"}')
        flow_id = flow.json().get("id", str(uuid4()))
        deployment = {"name": "evil", "flow_id": flow_id, "pull_steps": [STEP]}
        deployed = page.post("/deployments/", json=deployment)
    answers = [preflight, flow, rebound, simple, deployed]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [400, 401, 401, 401, 401], statuses
    assert not any("access-control-allow-origin" in answer.headers for answer in answers)
