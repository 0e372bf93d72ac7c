"""compose.yaml and what it mounts, as far as they can be checked without Docker."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import mlflow.environment_variables
import pytest
from botocore.credentials import EnvProvider
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from pipeline.core.files import ROOT
from pipeline.core.params import load_params
from serve.__main__ import parse_arguments
from serve.model.engine import Engine
from serve.model.metrics import Metrics
from serve.model.served import ServedModel
from tests.core.attack import attack_prefect
from tests.support import free_port

FOLDER = ROOT / "compose"
TEXT = (ROOT / "compose.yaml").read_text()
LOCK = (ROOT / "requirements.lock").read_text()


def read_yaml(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path)


COMPOSE = read_yaml(ROOT / "compose.yaml")
SERVICES = COMPOSE["services"]
DASHBOARD = json.loads((FOLDER / "grafana/dashboard.json").read_text())
(RULES,) = read_yaml(FOLDER / "alerts.yaml")["groups"]

# The variables that each service's programs read. Those of PostgreSQL, SeaweedFS and Grafana are in
# their documentation only.
MLFLOW = set(vars(mlflow.environment_variables))
PREFECT = _get_valid_setting_names(Settings)
S3_KEY = {EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY}
OURS, WATCH = (
    set(re.findall(r'os\.environ\W+get\("(\w+)"', (ROOT / path).read_text()))
    for path in ("serve/__main__.py", "pipeline/adapt/watch.py")
)
READ = {
    "postgres": {"POSTGRES_USER", "POSTGRES_PASSWORD"},
    "s3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    "mlflow": MLFLOW | S3_KEY | {"MLFLOW_BACKEND_STORE_URI"},  # of its command line
    "prefect": PREFECT,
    "worker": MLFLOW | PREFECT | OURS | WATCH,
    "serve": MLFLOW | OURS,
    "grafana": {
        "GF_SECURITY_ADMIN_PASSWORD",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_ANALYTICS_CHECK_FOR_UPDATES",
    },
}

# In a process of its own: MLflow's command line warns when it is imported.
MLFLOW_PARSES = """
import json, sys
from mlflow.cli import server
print(json.dumps(server.make_context("server", sys.argv[1:]).params))
"""


def mounts(kind: str) -> set[str]:
    """Return the sources of all mounts that are paths or names of volumes."""
    sources = {mount.split(":")[0] for one in SERVICES.values() for mount in one.get("volumes", [])}
    return {source for source in sources if source.startswith(".") == (kind == "paths")}


def test_every_service_has_a_pinned_image_or_a_build_whose_files_exist() -> None:
    for name, service in SERVICES.items():
        if build := service.get("build"):
            dockerfile = (ROOT / build["context"] / build["dockerfile"]).read_text()
            assert set(build["args"]) == set(re.findall(r"^ARG (\w+)", dockerfile, re.M)), name
            for files in re.findall(r"^COPY (.*) \S+$", dockerfile, re.M):
                assert all((ROOT / file).exists() for file in files.split()), files
        else:
            assert re.search(r":v?\d[\w.-]*$", service["image"]), name


def test_every_dependency_has_a_health_check_to_wait_for() -> None:
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}, name
            assert SERVICES[other]["healthcheck"]["test"][0] == "CMD", other


def test_every_volume_is_declared_and_every_mounted_path_exists() -> None:
    assert mounts("volumes") == set(COMPOSE["volumes"])
    assert [path for path in mounts("paths") if not (ROOT / path).exists()] == []
    assert SERVICES["prometheus"]["secrets"] == list(COMPOSE["secrets"])


def test_every_port_is_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 6
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)] == []


def test_no_password_is_on_a_command_line() -> None:
    commands = {name: str(service.get("command")) for name, service in SERVICES.items()}
    assert [name for name, command in commands.items() if "$" in command] == []
    assert "--backend-store-uri" not in (ROOT / "Makefile").read_text()


def test_every_service_is_started_again() -> None:
    assert {service["restart"] for service in SERVICES.values()} == {"unless-stopped"}


def test_the_prefect_server_has_the_version_of_the_lock() -> None:
    (version,) = re.findall(r"^prefect==(\S+)", LOCK, re.M)
    assert SERVICES["prefect"]["image"].startswith(f"prefecthq/prefect:{version}-")


def test_the_variables_of_the_compose_file_are_those_of_the_example() -> None:
    example = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.M)
    assert set(re.findall(r"\$\{(\w+):\?", TEXT)) == set(example)
    assert set(re.findall(r"\$\{(\w+)", TEXT)) == set(example)
    assert COMPOSE["secrets"]["serve_token"]["environment"] in example


@pytest.mark.parametrize("name", [name for name in SERVICES if "environment" in SERVICES[name]])
def test_every_environment_variable_is_read(name: str) -> None:
    assert set(SERVICES[name]["environment"]) - READ[name] == set()


def test_the_server_accepts_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    python, *arguments = SERVICES["serve"]["command"]
    assert (python, *arguments[:2]) == ("python", "-m", "serve")
    monkeypatch.setattr(sys, "argv", arguments[1:])
    options = parse_arguments()
    assert options.model == [f"models:/{load_params().tracking.registered_model}@champion"]
    (target,) = read_yaml(FOLDER / "prometheus.yaml")["scrape_configs"][0]["static_configs"]
    assert target["targets"] == [f"serve:{options.port}"]
    assert "serve" in options.allowed_hosts
    assert SERVICES["worker"]["environment"]["SERVE_URL"] == f"http://serve:{options.port}"
    assert options.sample >= load_params().adapt.rows


@pytest.mark.slow
def test_mlflow_accepts_its_options_and_its_clients() -> None:
    from mlflow.server.security_utils import is_allowed_host_header  # takes seconds to import

    command, subcommand, *arguments = SERVICES["mlflow"]["command"]
    assert (command, subcommand) == ("mlflow", "server")
    variables = {"MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:secret@postgres/mlflow"}
    parse = [sys.executable, "-c", MLFLOW_PARSES, *arguments]
    options = json.loads(subprocess.check_output(parse, env=os.environ | variables))
    assert options["backend_store_uri"] == variables["MLFLOW_BACKEND_STORE_URI"]
    assert set(variables) < set(SERVICES["mlflow"]["environment"])
    allowed = options["allowed_hosts"].split(",")
    for client in ("worker", "serve"):
        address = SERVICES[client]["environment"]["MLFLOW_TRACKING_URI"]
        assert is_allowed_host_header(allowed, address.removeprefix("http://"))
    assert is_allowed_host_header(allowed, SERVICES["mlflow"]["ports"][0].rpartition(":")[0])


def prefect_commands() -> list[str]:
    script = (ROOT / SERVICES["worker"]["command"][0]).read_text()
    commands = re.findall(r"^(?:exec )?(prefect .*)", script, re.M)
    return [*commands, " ".join(SERVICES["prefect"]["command"])]


@pytest.mark.slow
@pytest.mark.parametrize("command", prefect_commands())
def test_prefect_has_this_command_and_its_options(command: str) -> None:
    words = command.replace("--no-prompt ", "").split()  # an option of every command
    subcommands = [word for word in words if re.fullmatch("[a-z-]+", word) and word[0] != "-"][:3]
    shown = subprocess.check_output([*subcommands, "--help"], text=True)
    assert f"Usage: {' '.join(subcommands)}" in shown
    assert [word for word in words if word.startswith("--") and word not in shown] == []


@pytest.mark.slow
def test_a_web_page_cannot_command_prefect_but_the_worker_can(tmp_path: Path) -> None:
    port, clean = free_port(), {k: v for k, v in os.environ.items() if "PREFECT" not in k}

    def environment(name: str) -> dict[str, str]:
        """Return the service's variables, on this machine and with a password filled in."""
        text = json.dumps(SERVICES[name]["environment"])
        text = re.sub(r"\$\{(\w+):\?.*?\}", "secret", text).replace("//prefect:", "//127.0.0.1:")
        given: dict[str, str] = json.loads(text.replace("4200", str(port)))
        return clean | given | {"PREFECT_HOME": str(tmp_path)}

    def status(command: list[str], name: str) -> int:
        return subprocess.run(
            [word.replace("4200", str(port)) for word in command], env=environment(name)
        ).returncode

    address = f"http://127.0.0.1:{port}"
    start = [*SERVICES["prefect"]["command"][:3], "--port", str(port)]
    assert start[:3] == ["prefect", "server", "start"]
    with subprocess.Popen(start, env=environment("prefect"), cwd=tmp_path) as server:
        try:
            while status(SERVICES["prefect"]["healthcheck"]["test"][1:], "prefect"):
                assert server.poll() is None, "the server stopped"
                time.sleep(0.5)
            attack_prefect(f"{address}/api")
            assert httpx.get(f"{address}/ui-settings").json()["auth"] == "BASIC"  # the UI asks
            assert status(prefect_commands()[0].split(), "worker") == 0
        finally:
            server.terminate()


@pytest.mark.slow
def test_the_worker_reads_only_the_repository_and_works_in_a_clone_of_it(tmp_path: Path) -> None:
    (mount,) = SERVICES["worker"]["volumes"]
    assert mount == "./.git:/repository:ro"
    script = (ROOT / SERVICES["worker"]["command"][0]).read_text()
    clone = script.partition("python")[0].replace("/repository", str(tmp_path / "repository"))
    subprocess.run(["git", "clone", "-q", "--bare", ROOT, tmp_path / "repository"], check=True)
    project = tmp_path / "project"
    for _ in range(2):  # as the worker is started, and started again after a nightly run
        subprocess.run(["sh", "-c", clone], env=os.environ | {"HOME": str(tmp_path)}, check=True)
        assert not subprocess.check_output(["git", "status", "--porcelain"], cwd=project)
        (project / "dvc.lock").write_text("written by a nightly run")


def test_the_worker_uses_the_pool_of_the_deployments() -> None:
    deployments = read_yaml(ROOT / "prefect.yaml")["deployments"]
    (pool,) = {deployment["work_pool"]["name"] for deployment in deployments}
    create, _, start, _ = prefect_commands()
    assert f" create {pool} " in create
    assert start.endswith(f"--pool {pool}")


BY = r"(?:by|on) \(([\w, ]+)\)(?: group_left)?"


def expressions() -> list[str]:
    """Return all PromQL expressions of the alerts and the dashboard."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*panels, *(rule["expr"] for rule in RULES["rules"])]


def metric_names(expression: str) -> set[str]:
    return set(
        re.findall(r"\b[a-z]\w+\b(?! *\()", re.sub(f"{BY}|{{.*?}}|\\[.*?]| and ", "", expression))
    )


def labels(expression: str) -> set[str]:
    grouped = [label for labels in re.findall(BY, expression) for label in labels.split(", ")]
    return {*grouped, *re.findall(r'(\w+)=~?"', expression)}


def test_the_server_exports_every_metric_and_label_of_the_alerts_and_panels(model: Path) -> None:
    metrics = Metrics()
    ServedModel(Engine.read(model), metrics)
    families = text_string_to_metric_families(metrics.exposition().decode())
    exported = {"up": {"job"}}  # Prometheus's own
    for sample in [sample for family in families for sample in family.samples]:
        exported.setdefault(sample.name, set()).update(sample.labels)
    for expression in expressions():
        names = metric_names(expression)
        assert names, expression
        assert names <= set(exported), expression
        assert all(labels(expression) <= exported[name] for name in names), expression


def test_every_panel_reads_the_provisioned_data_source() -> None:
    (source,) = read_yaml(FOLDER / "grafana/datasource.yaml")["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    port = SERVICES["prometheus"]["ports"][0].rpartition(":")[2]
    assert source["url"] == f"http://prometheus:{port}"
    (provider,) = read_yaml(FOLDER / "grafana/provider.yaml")["providers"]
    mounted = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    assert any(Path(path).parent == Path(provider["options"]["path"]) for path in mounted)


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool: apt-get install prometheus"
)
@pytest.mark.parametrize(
    "arguments",
    [
        "check config --syntax-only prometheus.yaml",
        "check rules --lint-fatal alerts.yaml",
        "test rules alerts_test.yaml",
    ],
)
def test_promtool_accepts(arguments: str) -> None:
    subprocess.run(["promtool", *arguments.split()], cwd=FOLDER, check=True)


@pytest.mark.skipif(
    not shutil.which("amtool"), reason="needs amtool: apt-get install prometheus-alertmanager"
)
def test_amtool_accepts_the_receivers_file() -> None:
    subprocess.run(["amtool", "check-config", FOLDER / "alertmanager.yaml"], check=True)
