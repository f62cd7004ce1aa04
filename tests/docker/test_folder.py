"""docker/ and .github/ as files: what they say of each other is true."""

import os
import re
import subprocess

import pytest
from conftest import TOP

yaml = pytest.importorskip("yaml", reason="python3-yaml is not installed")
tomllib = pytest.importorskip("tomllib", reason="this Python has no tomllib")

DOCKER = os.path.join(TOP, "docker")
WORKFLOWS = os.path.join(TOP, ".github", "workflows")
SERVICES = ("router", "etcd", "postgres")
# Of README.md; what others of its rows stand for is not a name.
VARIABLE = re.compile(r"`([A-Z][A-Z0-9_]+)`")


def read(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as file:
        return file.read()


def text_of_tests():
    """The text of all tests that may show what a variable does."""
    folders = [os.path.join(TOP, "tests", *names) for names in (["docker"], ["system"], ["unit", "config"])]
    return "".join(read(folder, name) for top in folders for folder, _, names in os.walk(top)
                   for name in names if name.endswith((".py", ".c")) and name != os.path.basename(__file__))


def variables_of(file):
    return {name for line in read("docker", file).splitlines() if line.startswith("| ")
            for name in VARIABLE.findall(line.split(" | ")[0])}


def test_every_variable_of_the_readme_is_in_a_test():
    known = text_of_tests()
    unknown = sorted(name for name in variables_of("README.md") if not re.search(rf"\b{name}\b", known))
    assert not unknown


def test_every_variable_of_composes_file_is_in_the_readme():
    used = set(re.findall(r"\$\{([A-Z_]+)", read("docker", "compose.yml")))
    used |= {key for service in yaml.safe_load(read("docker", "compose.yml"))["services"].values()
             for holder in (service.get("environment", {}), service.get("build", {}).get("args", {}))
             for key, value in holder.items() if value is None}
    text = read("docker", "README.md")
    assert not sorted(name for name in used - {"COMPOSE_PROJECT_NAME"} if f"`{name}`" not in text)


def test_no_container_of_compose_has_a_name_of_its_own():
    """It could not be scaled, and would clash with other projects."""
    services = yaml.safe_load(read("docker", "compose.yml"))["services"]
    assert len(services) == 7
    assert not [name for name, service in services.items() if "container_name" in service]
    for service in services.values():
        assert os.path.exists(os.path.join(TOP, service["build"]["dockerfile"]))


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_file_names_what_is_there(service):
    told = tomllib.loads(read("docker", service, "railway.toml"))
    assert os.path.exists(os.path.join(TOP, told["build"]["dockerfilePath"]))
    for pattern in told["build"]["watchPatterns"]:
        assert os.path.exists(os.path.join(TOP, pattern.removesuffix("/**"))), pattern
    assert told["deploy"]["restartPolicyType"] == "ALWAYS"


def test_the_folders_of_the_structure_are_there():
    named = re.findall(r"^[├└]── (\S+)", read("docker", "STRUCTURE.md"), re.M)
    for name in named:
        folder = WORKFLOWS if name.endswith(".yml") and name != "compose.yml" else DOCKER
        assert os.path.exists(os.path.join(folder, name)), name
    there = {name + "/" * os.path.isdir(os.path.join(DOCKER, name)) for name in os.listdir(DOCKER)}
    assert there <= set(named)


def test_each_file_of_a_service_is_in_the_structure():
    text = read("docker", "STRUCTURE.md")
    for service in SERVICES:
        for name in os.listdir(os.path.join(DOCKER, service)):
            assert f"── {name} " in text or re.match(r"(__pycache__|Dockerfile\.1\d)$", name), f"{service}/{name}"


@pytest.mark.parametrize("file", sorted(os.listdir(WORKFLOWS)))
def test_a_workflow_is_well_formed(file):
    flow = yaml.safe_load(read(".github", "workflows", file))
    assert flow["permissions"] == {"contents": "read"}
    for job in flow["jobs"].values():
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.search(r"@v\d", step.get("uses", "@v1"))


def test_images_are_made_for_every_major():
    image = yaml.safe_load(read(".github", "workflows", "build-and-push.yml"))["jobs"]["image"]
    matrix = image["strategy"]["matrix"]
    assert matrix["major"] == [str(major) for major in range(13, 19)]
    assert {entry["image"] for entry in matrix["include"]} | set(matrix["image"]) == \
        {"router", "etcd", "postgres-patroni"}
    build = next(step["with"] for step in image["steps"] if "build-push" in step.get("uses", ""))
    assert (build["platforms"], build["sbom"], build["provenance"]) == ("linux/amd64,linux/arm64", True, "mode=max")


def test_the_versions_that_a_workflow_reads_are_found():
    """Its own commands."""
    flow = yaml.safe_load(read(".github", "workflows", "build-and-push.yml"))
    script = next(step["run"] for step in flow["jobs"]["names"]["steps"] if "run" in step)
    said = subprocess.run(["bash", "-euc", script.replace('>>"$GITHUB_OUTPUT"', "")], cwd=TOP, check=True,
                          capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "GITHUB_REPOSITORY": "Some/Body"}).stdout
    assert re.fullmatch(r"registry=ghcr.io/some/body\nrouter=\d+\.\d+\.\d+\netcd=3\.5\.\d+\n", said)


@pytest.mark.parametrize("image, major, target, folder, names", [
    ("router", "", "", "router", ["router:1.2.3", "router:latest"]),
    ("etcd", "", "", "etcd", ["etcd:3.5.9", "etcd:latest"]),
    ("postgres-patroni", "13", "ha", "postgres", ["postgres-patroni:13"]),
    ("postgres-patroni", "18", "slim", "postgres", ["postgres:18"])])
def test_what_a_workflow_builds_has_its_name(image, major, target, folder, names):
    """Its own commands."""
    flow = yaml.safe_load(read(".github", "workflows", "build-and-push.yml"))
    script = next(step["run"] for step in flow["jobs"]["image"]["steps"] if step.get("id") == "what")
    said = subprocess.run(["bash", "-euc", script.replace('>>"$GITHUB_OUTPUT"', "")], check=True,
                          capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "REGISTRY": "ghcr.io/a/b", "IMAGE": image, "MAJOR": major,
                               "TARGET": target, "ROUTER": "1.2.3", "ETCD": "3.5.9"}).stdout.splitlines()
    file = f"docker/{folder}/Dockerfile"
    assert os.path.exists(os.path.join(TOP, file))
    assert said == [f"file={file}", f"image=ghcr.io/a/b/{names[0].split(':')[0]}",
                    f"arguments={'PG_MAJOR=' + major if major else ''}", "tags<<END",
                    *(f"ghcr.io/a/b/{name}" for name in names), "END"]


def test_no_secret_gets_into_a_build():
    """Nor anything that is not a source."""
    lines = read(".dockerignore").splitlines()
    assert lines[1] == "*" and "**/.env" in lines
    assert subprocess.run(["git", "check-ignore", "-q", "docker/.env", "docker/swarm/.env"], cwd=TOP,
                          check=False).returncode in (0, 128)  # 128: not a repository
