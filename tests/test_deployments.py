"""The manifests under docs/deployments/: valid, alike where they should be, and safe.

None of them has run on a cluster here. What can be proved without one: the schemas of Kubernetes,
rules of ours, and, with a server of our own, that Triton starts with these arguments.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import tritonic_nb
from tests.own_shm import WHY_NOT, own_dev_shm
from tritonic_nb import SharedMemoryType
from tritonic_nb.memory import region_nbytes
from tritonic_nb.server.pools import pool_growth

FOLDER = Path(__file__).parents[1] / "docs" / "deployments"
FILES = sorted(FOLDER.glob("*.yaml"))
MANIFESTS = [file for file in FILES if file.name != "jupyterhub-values.yaml"]
LOOPBACK = {"--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"}
PORTS = ["8000", "8001", "8002"]

# What the chart allows, by its values.schema.yaml (commit 48ea50e, July 2026), of what is used.
HUB_KEYS = {
    "singleuser": {
        "image", "uid", "fsGid", "cpu", "memory", "startTimeout", "extraContainers", "storage",
    },
    "image": {"name", "tag", "pullPolicy", "pullSecrets"},
    "cpu": {"limit", "guarantee"},
    "memory": {"limit", "guarantee"},
    "storage": {
        "type", "extraLabels", "extraVolumes", "extraVolumeMounts", "static", "capacity",
        "homeMountPath", "dynamic",
    },
}  # fmt: skip


def documents(file: Path) -> list[dict[str, Any]]:
    """Return what a file has; of values for JupyterHub, the pod that comes of them."""
    found = list(yaml.safe_load_all(file.read_text()))
    return found if file in MANIFESTS else [hub_pod(found[0])]


def hub_pod(values: dict[str, Any]) -> dict[str, Any]:
    """Return the pod that JupyterHub's spawner makes of the values, as far as they tell."""
    user = values["singleuser"]
    limits = {"memory": user["memory"]["limit"]}
    notebook = {
        "name": "notebook", "image": f"{user['image']['name']}:{user['image']['tag']}",
        "resources": {"limits": limits},
        "securityContext": {
            "runAsUser": user["uid"], "runAsNonRoot": True, "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": user["storage"]["extraVolumeMounts"],
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "jupyter-user"},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"fsGroup": user["fsGid"]},
            "containers": [notebook, *user["extraContainers"]],
            "volumes": user["storage"]["extraVolumes"],
        },
    }  # fmt: skip


def pods(file: Path) -> Iterator[dict[str, Any]]:
    """Give the specification of each pod of a file."""
    for document in documents(file):
        spec = document.get("spec", {})
        if document["kind"] == "Pod":
            yield spec
        elif document["kind"] in ("Deployment", "Job"):
            yield spec["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a pod's containers, sidecars included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


PODS = [(file, pod) for file in FILES for pod in pods(file)]
NAMES = [f"{file.stem}-{number}" for number, (file, _) in enumerate(PODS)]
TRITONS = [
    (file, pod, each) for file, pod in PODS for each in containers(pod) if each["name"] == "triton"
]
each_pod = pytest.mark.parametrize("pod", [pod for _, pod in PODS], ids=NAMES)
each_triton = pytest.mark.parametrize(
    ("file", "pod", "triton"), TRITONS, ids=[file.stem for file, *_ in TRITONS]
)


def nbytes_of(quantity: str) -> int:
    """Return the bytes of a quantity, as far as these files use them."""
    number, unit = re.fullmatch(r"(\d+)([KMGT]i?)?", quantity).groups()  # type: ignore[union-attr]
    power = "KMGT".index(unit[0]) + 1 if unit else 0
    return int(number) * (1024 if unit and unit.endswith("i") else 1000) ** power


@pytest.mark.parametrize("version", ["1.29", "1.34", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_is_valid(file: Path, version: str) -> None:
    """Kubernetes' own schemas take every document, with no field that they do not know."""
    if file.name == "notebook-gpu-cuda.yaml" and version == "1.29":
        pytest.skip("resource claims are of version v1 from Kubernetes 1.34 on")
    for document in documents(file):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_do_refuse() -> None:
    """A field of another name is an error: the check is not an empty one."""
    document = documents(FOLDER / "notebook-cpu.yaml")[0]
    document["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        kubernetes_validate.validate(document, "1.34", strict=True)


def test_the_hub_knows_the_keys() -> None:
    """Every key of JupyterHub's values is one of its chart; Triton's user is the notebook's."""
    values = yaml.safe_load((FOLDER / "jupyterhub-values.yaml").read_text())
    assert set(values) == {"singleuser"}
    user = values["singleuser"]
    assert set(user) <= HUB_KEYS["singleuser"]
    for name in ("image", "cpu", "memory", "storage"):
        assert set(user[name]) <= HUB_KEYS[name]
    assert [each["securityContext"]["runAsUser"] for each in user["extraContainers"]] == [
        user["uid"]
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_says_what_it_is(file: Path) -> None:
    """The first lines tell what it is, how to apply it and what to change."""
    head = file.read_text().partition("\napiVersion")[0]
    assert head.startswith("# ")
    assert "# Apply:" in head
    assert "# Change:" in head


@each_pod
def test_one_memory_for_all_of_a_pod(pod: dict[str, Any]) -> None:
    """Where there is a Triton, every container has the same volume in memory at /dev/shm."""
    if not any(each["name"] == "triton" for each in containers(pod)):
        return
    at = [
        {mount["mountPath"]: mount for mount in each["volumeMounts"]}["/dev/shm"]
        for each in containers(pod)
    ]
    assert {mount["name"] for mount in at} == {"shm"}
    assert not any(mount.get("readOnly") for mount in at)
    (shm,) = (volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"]["medium"] == "Memory"
    assert shm["emptyDir"]["sizeLimit"]


@each_pod
def test_the_memory_limit_has_room_for_it(pod: dict[str, Any]) -> None:
    """A full /dev/shm counts against who wrote it: each limit is 1 GB more, at least."""
    limits = {"shm": 0}
    for volume in pod.get("volumes", []):
        if "emptyDir" in volume:
            limits[volume["name"]] = nbytes_of(volume["emptyDir"]["sizeLimit"])
    for each in containers(pod):
        limit = nbytes_of(each["resources"]["limits"]["memory"])
        assert limit >= limits["shm"] + 10**9
        if "--memory-limit" in each.get("command", []):  # of which Dask keeps some percent
            told = each["command"][each["command"].index("--memory-limit") + 1]
            assert nbytes_of(told.removesuffix("B")) == limit


@each_pod
def test_each_container_has_few_rights(pod: dict[str, Any]) -> None:
    """Nobody is root or privileged; nothing of the node is shared; one user for all of a pod."""
    assert not {"hostPID", "hostIPC", "hostNetwork"} & {key for key, on in pod.items() if on}
    assert not any("hostPath" in volume for volume in pod.get("volumes", []))
    assert pod["automountServiceAccountToken"] is False
    users = set()
    for each in containers(pod):
        has = {**pod.get("securityContext", {}), **each["securityContext"]}
        assert has["runAsNonRoot"] is True
        assert has["allowPrivilegeEscalation"] is False
        assert has["capabilities"] == {"drop": ["ALL"]}
        assert has["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not has.get("privileged")
        users.add(has["runAsUser"])
    assert len(users) == 1


@each_triton
def test_triton_is_asked_whether_it_is_ready(
    file: Path, pod: dict[str, Any], triton: dict[str, Any]
) -> None:
    """At the health paths; by a command where it listens on the loopback, which is the pod's."""
    local = set(triton["args"]) >= LOOPBACK
    assert local or not set(triton["args"]) & LOOPBACK
    paths = []
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = triton[name]
        assert ("exec" in probe) == local
        paths.append(probe["exec"]["command"][-1] if local else probe["httpGet"]["path"])
    assert [path.rpartition("/v2/")[2] for path in paths] == ["health/ready"] * 2 + ["health/live"]


@each_triton
def test_nobody_else_reaches_what_runs_code(
    file: Path, pod: dict[str, Any], triton: dict[str, Any]
) -> None:
    """Triton's model repository API is for the pod alone, or behind a header from a Secret."""
    if not set(triton["args"]) >= LOOPBACK:
        for flag in ("--http-restricted-api=", "--grpc-restricted-protocol="):
            (given,) = (each for each in triton["args"] if each.startswith(flag))
            assert given.startswith(f"{flag}model-repository,shared-memory,trace,logging:")
            assert given.endswith("=$(TRITON_KEY)")
        assert "NetworkPolicy" in {each["kind"] for each in documents(file)}


def test_all_tritons_are_one() -> None:
    """The same image, by a placeholder; the same arguments wherever it is beside its client."""
    assert {triton["image"] for *_, triton in TRITONS} == {"nvcr.io/nvidia/tritonserver:YY.MM-py3"}
    beside = [triton["args"] for file, _, triton in TRITONS if file.name != "triton-remote.yaml"]
    assert all(args == beside[0] for args in beside)
    for file, *_ in TRITONS:
        assert (file.name == "triton-remote.yaml") != (
            "--allow-client-shm=true" in file.read_text()
        )


def test_images_are_placeholders() -> None:
    """No image has a version that gets old, and all of a kind have the same."""
    images = {each["image"] for _, pod in PODS for each in containers(pod)}
    assert images == {"nvcr.io/nvidia/tritonserver:YY.MM-py3", "registry.example/notebook:TAG"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_secret_stands_there(file: Path) -> None:
    """Secrets are referred to, and made by a command."""
    text = file.read_text()
    for document in documents(file):
        assert document["kind"] != "Secret"
    for _, pod in ((found, pod) for found, pod in PODS if found == file):
        for each in containers(pod):
            for variable in each.get("env", []):
                secret = re.search("KEY|TOKEN|PASSWORD", variable["name"])
                assert bool(secret) == ("secretKeyRef" in variable.get("valueFrom", {}))
    for name in re.findall(r"secretKeyRef: \{name: ([\w-]+)", text):
        assert (
            re.search(rf"kubectl create secret generic {name} ", text) or "as notebook-cpu" in text
        )


def test_ports_lead_to_the_server() -> None:
    """Services and policies name ports that the pods have; all speak of one scheduler."""
    for file in MANIFESTS:
        ports = {
            port["name"]: port["containerPort"]
            for pod in pods(file) for each in containers(pod) for port in each.get("ports", [])
        }  # fmt: skip
        for document in documents(file):
            if document["kind"] == "Service":
                for port in document["spec"]["ports"]:
                    assert ports[port["targetPort"]] == port["port"]
            if document["kind"] == "NetworkPolicy":
                for rule in document["spec"]["ingress"]:
                    assert {each["port"] for each in rule.get("ports", [])} <= set(ports)
    scheduler, job = ((FOLDER / name).read_text() for name in ("dask.yaml", "dask-job.yaml"))
    assert "port: 8786" in scheduler
    assert "tcp://dask-scheduler:8786" in scheduler
    assert "tcp://dask-scheduler:8786" in job


def test_selectors_find_their_pods() -> None:
    """Each Service, Deployment and policy selects labels that pods of its file have."""
    for file in MANIFESTS:
        labels = [
            each["spec"]["template"]["metadata"]["labels"].items()
            for each in documents(file) if each["kind"] in ("Deployment", "Job")
        ]  # fmt: skip
        for document in documents(file):
            spec = document.get("spec", {})
            selector = spec.get("selector") or spec.get("podSelector") or {}
            wanted = selector.get("matchLabels", selector).items()
            assert any(wanted <= has for has in labels), (file.name, document["kind"])


def job_script() -> str:
    """Return the Python script of the Dask job."""
    made = {each["kind"]: each for each in documents(FOLDER / "dask-job.yaml")}
    return str(made["ConfigMap"]["data"]["classify.py"])


def test_the_job_names_what_it_gets() -> None:
    """Its script can be parsed, and every variable that it reads is one that the Job gives."""
    script = job_script()
    ast.parse(script)
    (pod,) = pods(FOLDER / "dask-job.yaml")
    given = {each["name"] for each in pod["containers"][0]["env"]}
    assert set(re.findall(r'environ\["(\w+)"\]', script)) == given


def test_the_page_names_every_file() -> None:
    """docs/deployments.md tells of each, and of no other."""
    page = (FOLDER.parent / "deployments.md").read_text()
    linked = set(re.findall(r"\(deployments/([\w-]+\.yaml)\)", page))
    assert linked == {file.name for file in FILES}


def in_a_pod(pod: dict[str, Any], triton: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Run a manifest's Triton with a network and a /dev/shm of its own; return what was seen."""
    (shm,) = (volume for volume in pod["volumes"] if volume["name"] == "shm")
    size = str(nbytes_of(shm["emptyDir"]["sizeLimit"]))
    asked = {
        "args": triton["args"], "startup": triton["startupProbe"],
        "probes": [triton["readinessProbe"], triton["livenessProbe"]], **more,
    }  # fmt: skip
    done = subprocess.run(
        ["unshare", "--net", *own_dev_shm(size), sys.executable, "-m", "tests.manifest_pod"],
        cwd=FOLDER.parents[1], input=json.dumps(asked), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def triton_of(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the last pod of a file, and its Triton."""
    return [(pod, triton) for file, pod, triton in TRITONS if file.name == name][-1]


needs_a_pod = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "never")


@needs_a_pod
def test_a_notebook_shares_memory_with_its_triton() -> None:
    """A real Triton starts with the arguments, its probes pass, and tensors go through /dev/shm."""
    told = in_a_pod(*triton_of("notebook-cpu.yaml"))
    assert told["probes"] == [True, True]
    assert told["shared"] == 2 * 602_112, told["reason"]
    assert "cat" in told["label"].lower()
    assert told["refused"] == ""
    assert sorted(each.rpartition(":")[2] for each in told["listening"]) == PORTS
    assert all("127.0.0.1" in each for each in told["listening"])


@needs_a_pod
def test_a_remote_client_may_infer_and_not_change_the_server() -> None:
    """Over the wire without a header; models and shared memory only with the Secret's value."""
    told = in_a_pod(*triton_of("triton-remote.yaml"))
    assert told["probes"] == [True, True]
    assert told["shared"] == 0
    assert "cat" in told["label"].lower()
    assert told["refused"] == "RestrictedApiError"
    assert told["with the key"] == ""
    assert sorted(each.rpartition(":")[2] for each in told["listening"]) == PORTS
    assert not any("127.0.0.1" in each for each in told["listening"])


@needs_a_pod
@pytest.mark.skipif(
    "executor" not in inspect.signature(tritonic_nb.Session.map).parameters,
    reason="this version has no map over an executor",
)
def test_the_dask_job_does_its_work() -> None:
    """Scheduler, worker and script, by the commands of the manifests, give a class per picture."""
    commands = {
        each["name"]: each["command"]
        for pod in pods(FOLDER / "dask.yaml") for each in pod["containers"]
    }  # fmt: skip
    told = in_a_pod(*triton_of("dask-job.yaml"), job={"script": job_script(), **commands})
    assert told["rc"] == 0, told["told"]
    lines = told["classes"].splitlines()
    photos = [path for path in tritonic_nb.samples.images().values() if path.suffix == ".jpg"]
    assert [line.partition("\t")[0] for line in lines] == sorted(path.name for path in photos)
    assert any(line.startswith("cat.jpg") and "cat" in line.partition("\t")[2] for line in lines)


ROW = re.compile(
    r"\| ([^|]+) \| ([\d,]+) \| ([\d,+ ]+) \| (\d+) " + r"\| ([\d,]+) " * 3 + r"\| (\w+) \|"
)


def sizes() -> list[tuple[str, ...]]:
    """Return the worked examples of the page."""
    page = (FOLDER.parent / "deployments.md").read_text()
    part = page.partition("<!-- sizes -->")[2].partition("<!-- end of sizes -->")[0]
    return [found.groups() for found in ROW.finditer(part)]


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize("row", sizes(), ids=[row[0][:30] for row in sizes()])
def test_the_sizes_are_worked_out_right(row: tuple[str, ...]) -> None:
    """By the functions that preflight() uses; the limit is a quarter more, as a power of two."""
    name, given, taken, flight, regions, pools, total, limit = row
    outputs = [number(each) for each in taken.split(" + ")]
    tensors = [number(given), *outputs]
    made = int(flight) * sum(region_nbytes(SharedMemoryType.SYSTEM, each) for each in tensors)
    assert number(regions) == made
    python = not name.startswith("ONNX")
    assert number(pools) == python * pool_growth([], number(given), sum(outputs), int(flight))
    assert number(total) == number(regions) + number(pools)
    powers = (2**power for power in range(26, 40))  # from Docker's 64 MB on
    assert nbytes_of(limit) == next(size for size in powers if size >= 1.25 * number(total))


def test_preflight_says_the_same() -> None:
    """Of the first two examples: regions to the byte, and pools with the 1 MiB that there was."""
    with tritonic_nb.serve(progress=None) as own:
        own.add("classifier", tritonic_nb.samples.classifier())
        with own.session(model="classifier") as session:
            for row, batch in zip(sizes(), (1, 8)):  # noqa: B905
                told = session.preflight(batch=batch, in_flight=int(row[3]))
                assert told.region_nbytes == number(row[4])
                assert told.pool_nbytes == number(row[5]) - sum(own.pools().values())
        own.stop(0.0)
    assert [row[0].partition(",")[0] for row in sizes()[:2]] == ["the classifier"] * 2
    assert len(sizes()) == 5
