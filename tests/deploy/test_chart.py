"""The Helm chart, rendered by Helm itself and checked against Kubernetes' own schemas."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "sordino"
SERVER = {"server": {"enabled": True}}
SITE = {
    "site": {
        "enabled": True,
        "name": "cleveland",
        "server": {"host": "sordino.example.org", "address": "192.0.2.10"},
    }
}
NEIGHBOUR = {
    "site": {
        "enabled": True,
        "name": "cleveland",
        "server": {
            "host": "x-server",
            "port": 443,
            "peer": {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "server"}}},
        },
    }
}
"""A site in the cluster of its server, whose Service has a port of its own."""

WATCHED = {"monitoring": {"serviceMonitor": True, "prometheusRule": True, "dashboards": True}}
VERSIONS = ("1.27", "1.37")
"""The oldest that the chart allows, and the newest whose schemas are there."""

_OPERATORS = {"ServiceMonitor", "PrometheusRule"}

helm = pytest.importorskip("helm_python", reason="needs the Python package helm-python-sdk")
kubernetes = pytest.importorskip(
    "kubernetes_validate", reason="needs the Python package kubernetes-validate"
)
yaml = pytest.importorskip("yaml", reason="needs the Python package pyyaml")

Manifest = Mapping[str, object]


def site_with(**others: object) -> Mapping[str, object]:
    """Values of a site, with other ones of its own."""
    return {"site": {**SITE["site"], **others}}


def rendered(*values: Mapping[str, object]) -> dict[tuple[str, str], Manifest]:
    """What would be installed, by kind and name."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values={key: each[key] for each in values for key in each}, name="x")
    manifests = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in manifests}


def at(manifest: object, path: str) -> object:
    """A value in nested mappings, lists by number."""
    value = manifest
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]  # type: ignore[index]
    return value


def listed(manifest: object, path: str) -> list[dict[str, object]]:
    """A list of mappings in nested mappings."""
    value = at(manifest, path)
    assert isinstance(value, list)
    return value


def written(manifests: Mapping[tuple[str, str], Manifest], name: str, directory: Path) -> Path:
    """A file of a ConfigMap, as a daemon finds it."""
    for (kind, _), manifest in manifests.items():
        files = at(manifest, "data") if kind == "ConfigMap" else None
        if isinstance(files, dict) and name in files:
            (directory / name).write_text(str(files[name]))
            return directory / name
    raise AssertionError(name)


def containers(manifests: Mapping[tuple[str, str], Manifest]) -> Iterator[dict[str, object]]:
    for (kind, _), manifest in manifests.items():
        pod = {
            "StatefulSet": "spec.template.spec",
            "CronJob": "spec.jobTemplate.spec.template.spec",
        }.get(kind)
        if pod is not None:
            spec = at(manifest, pod)
            assert isinstance(spec, dict)
            yield from [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("values", [SERVER, SITE, NEIGHBOUR], ids=["server", "site", "neighbour"])
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_what_comes_out(values: Mapping[str, object], version: str) -> None:
    manifests = rendered(values, WATCHED)
    for (kind, _), manifest in manifests.items():
        if kind not in _OPERATORS:
            kubernetes.validate(manifest, version, strict=True)
    assert len(manifests) > 5


def test_the_schemas_see_a_wrong_key() -> None:
    (claim, *_) = (each for (kind, _), each in rendered(SERVER).items() if kind == "Service")
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate({**claim, "specification": {}}, VERSIONS[0], strict=True)


def test_helm_finds_nothing_wrong() -> None:
    found = helm.lint(str(CHART))
    assert found["errors"] == []
    # An icon is all that is missed.
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(
    "values",
    [
        {**SERVER, **SITE},
        {"site": {"enabled": True, "name": "x"}},
        {"site": {"enabled": True, "name": "x", "server": {"host": "y"}}},
        {"sever": {"enabled": True}},
        {"server": {"enabled": True, "storage": {"size": "large"}}},
        {"server": {"enabled": True, "resources": {"limit": {"memory": "1Gi"}}}},
        {"server": {"enabled": True, "allowPublicFrom": [{"cidr": "192.0.2.0/24"}]}},
        site_with(vault={"allowEgressTo": [{"ports": [{"port": 5432}]}]}),
        site_with(vault={"seccompProfile": {"type": "Localhost"}}),
    ],
    ids=[
        "both",
        "no server",
        "no address",
        "typing error",
        "no size",
        "no such resource",
        "no peer",
        "egress to everybody",
        "no profile",
    ],
)
def test_refuses_values_that_make_no_sense(values: Mapping[str, object]) -> None:
    with pytest.raises(helm.HelmError):
        rendered(values)


def test_installs_nothing_unless_told_what() -> None:
    assert rendered() == {}


@pytest.mark.parametrize("values", [SERVER, SITE], ids=["server", "site"])
def test_every_container_is_nobody_and_may_do_nothing(values: Mapping[str, object]) -> None:
    made = rendered(values)
    assert list(containers(made))
    for container in containers(made):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for (kind, _), manifest in made.items():
        if kind == "StatefulSet":
            assert at(manifest, "spec.template.spec.securityContext.runAsNonRoot") is True
            assert at(manifest, "spec.template.spec.automountServiceAccountToken") is False


def test_the_vault_reaches_nothing_and_the_link_the_server_alone() -> None:
    made = rendered(SITE)
    vault, link = made["NetworkPolicy", "x-vault"], made["NetworkPolicy", "x-link"]
    assert at(vault, "spec.egress") == at(vault, "spec.ingress") == []
    assert at(vault, "spec.policyTypes") == ["Ingress", "Egress"]
    assert at(link, "spec.egress") == [
        {
            "to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}],
            "ports": [{"protocol": "TCP", "port": 9443}],
        }
    ]
    for name, manifest in (("vault", vault), ("link", link)):
        labels = at(made["StatefulSet", f"x-{name}"], "spec.template.metadata.labels")
        chosen = at(manifest, "spec.podSelector.matchLabels")
        assert isinstance(labels, dict)
        assert isinstance(chosen, dict)
        assert chosen.items() <= labels.items()


def test_a_link_beside_its_server_finds_it_by_name_and_reaches_nothing_else() -> None:
    to_server, to_resolver = listed(rendered(NEIGHBOUR)["NetworkPolicy", "x-link"], "spec.egress")
    pod = "spec.template.spec.containers.0.ports.0.containerPort"
    port = at(rendered(SERVER)["StatefulSet", "x-server"], pod)
    assert to_server["ports"] == [{"protocol": "TCP", "port": port}]
    assert to_server["to"] == [at(NEIGHBOUR, "site.server.peer")]
    asked = {(each["protocol"], each["port"]) for each in listed(to_resolver, "ports")}
    assert asked == {("UDP", 53), ("TCP", 53)}
    # By its address, it needs no resolver.
    assert len(listed(rendered(SITE)["NetworkPolicy", "x-link"], "spec.egress")) == 1


def test_the_server_answers_and_never_calls() -> None:
    policy = rendered(SERVER)["NetworkPolicy", "x-server"]
    assert at(policy, "spec.egress") == []
    ingress = at(policy, "spec.ingress")
    assert isinstance(ingress, list)
    ports = [port["port"] for rule in ingress for port in rule["ports"]]
    assert ports == ["public", "gateway", "metrics"]


def test_the_link_sees_of_the_vault_the_socket_alone() -> None:
    made = rendered(SITE)

    def sources(name: str) -> set[str]:
        volumes = at(made["StatefulSet", name], "spec.template.spec.volumes")
        assert isinstance(volumes, list)
        named = [json.dumps(each) for each in volumes]
        return {each for each in named if "Claim" in each or "secretName" in each}

    assert [json.loads(each)["name"] for each in sources("x-vault") & sources("x-link")] == [
        "socket"
    ]


def test_an_audit_goes_where_the_servers_volume_is_and_fails_when_it_finds_something() -> None:
    job = rendered(SERVER)["CronJob", "x-audit"]
    pod = "spec.jobTemplate.spec.template.spec"
    rule = at(job, f"{pod}.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.0")
    server = at(rendered(SERVER)["StatefulSet", "x-server"], "spec.template.metadata.labels")
    chosen = at(rule, "labelSelector.matchLabels")
    assert isinstance(server, dict)
    assert isinstance(chosen, dict)
    assert chosen.items() <= server.items()
    assert at(job, "spec.jobTemplate.spec.backoffLimit") == 0


def test_alerts_and_dashboards_are_those_of_every_other_installation() -> None:
    made = rendered(SERVER, WATCHED)
    deploy = CHART.parents[1]
    alerts = yaml.safe_load((deploy / "prometheus" / "alerts.yml").read_text())
    assert at(made["PrometheusRule", "x"], "spec") == alerts
    shown = at(made["ConfigMap", "x-dashboards"], "data")
    assert isinstance(shown, dict)
    files = sorted((deploy / "grafana").rglob("sordino-*.json"))
    assert files
    assert {name: json.loads(text) for name, text in shown.items()} == {
        each.name: json.loads(each.read_text()) for each in files
    }


@pytest.mark.parametrize(
    ("values", "name", "file"),
    [(SERVER, "x-server", "server.toml"), (SITE, "x-link", "site.toml")],
    ids=["server", "link"],
)
def test_asks_a_daemon_whether_it_lives_where_it_answers(
    values: Mapping[str, object], name: str, file: str, tmp_path: Path
) -> None:
    made = rendered(values)
    container = at(made["StatefulSet", name], "spec.template.spec.containers.0")
    # What is not ready is not restarted: a full disk is not mended by it.
    paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        assert at(container, f"{probe}.httpGet") == {"path": path, "port": "metrics"}
    ports = {each["name"]: each["containerPort"] for each in listed(container, "ports")}
    assert f'"0.0.0.0:{ports["metrics"]}"' in written(made, file, tmp_path).read_text()


def test_a_server_that_is_not_ready_still_answers_its_sites() -> None:
    assert at(rendered(SERVER)["Service", "x-server"], "spec.publishNotReadyAddresses") is True


def test_a_revocation_counts_without_a_new_pod(tmp_path: Path) -> None:
    from sordino_server.config import load_config  # noqa: PLC0415

    made = rendered(SERVER)
    server = load_config(written(made, "server.toml", tmp_path))
    pod = at(made["StatefulSet", "x-server"], "spec.template.spec")
    mounts = {each["mountPath"]: each for each in listed(pod, "containers.0.volumeMounts")}
    volumes = {each["name"]: each for each in listed(pod, "volumes")}
    for path in (server.server.client_ca, server.gateway.client_ca):
        assert path is not None
        mount = mounts[str(path.parent)]
        # One file of a ConfigMap, mounted by itself, stays what it was at the start.
        assert "subPath" not in mount
        assert "configMap" in volumes[mount["name"]]


def test_every_path_that_a_site_is_told_of_is_mounted(tmp_path: Path) -> None:
    from sordino_client.config import load_config  # noqa: PLC0415

    made = rendered(SITE)
    site = load_config(written(made, "site.toml", tmp_path))
    for name, section in (("x-vault", site.site), ("x-link", site.link)):
        container = at(made["StatefulSet", name], "spec.template.spec.containers.0")
        mounts = {str(each["mountPath"]) for each in listed(container, "volumeMounts")}
        paths = {key: path for key, path in section if isinstance(path, Path)}
        assert paths
        for key, path in paths.items():
            # One that is relative is beside the file, which is /etc/sordino/site.toml.
            here = Path(str(path).replace(str(tmp_path), "/etc/sordino"))
            assert mounts & {str(here), *map(str, here.parents)}, (name, key)
    assert site.approvers == Path("/etc/sordino/approvers")


# ------------------------------------------------------------------ the schema of the values


def open_objects(schema: object, path: str = "") -> Iterator[str]:
    """Where a schema takes keys that it does not name."""
    if isinstance(schema, list):
        for number, each in enumerate(schema):
            yield from open_objects(each, f"{path}.{number}")
    elif isinstance(schema, dict):
        if schema.get("type") == "object" and "additionalProperties" not in schema:
            yield path
        for key, each in schema.items():
            yield from open_objects(each, f"{path}.{key}")


def test_the_schema_takes_no_key_that_it_does_not_name() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm itself hands these to every chart.
    assert list(open_objects(schema)) == [".properties.global"]


def test_the_schema_and_the_values_name_the_same_keys() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(schema: Mapping[str, object], value: object, path: str) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict) and isinstance(value, dict):
            assert set(properties) - {"global"} == set(value), path
            for key, each in value.items():
                compare(properties[key], each, f"{path}.{key}")

    compare(schema, values, "")


def test_what_it_writes_for_the_daemons_they_can_read(tmp_path: Path) -> None:
    from sordino_client.config import load_config as load_site  # noqa: PLC0415
    from sordino_server.config import load_config as load_server  # noqa: PLC0415

    site = written(rendered(SITE), "site.toml", tmp_path)
    server = written(rendered(SERVER), "server.toml", tmp_path)
    assert load_site(site).site.name == "cleveland"
    assert load_site(site).link.server == "sordino.example.org:9443"
    assert load_server(server).server.public == "0.0.0.0:9443"
