"""Images of every major of PostgreSQL. Only the distribution's own can be had everywhere, so the base that they are
built on is a stand-in of the official image: a PostgreSQL that knows nothing but its version."""

import os
import subprocess

import pytest

from cluster import engine
from cluster.engine import docker, inspect
from stack import BUILD_S, STAND_INS, TOP

WHY_NOT = engine.why_none()
pytestmark = [pytest.mark.engine, pytest.mark.takes(2 * BUILD_S),
              pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

MAJORS = range(13, 19)
NAMES = {"slim": "postgres", "ha": "postgres-patroni"}
# With the packages of both targets, so that these find nothing to install.
BASE = r"""ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install \
      ca-certificates openssl curl patroni python3 python3-etcd python3-yaml && \
    (id postgres || useradd --system --user-group --home-dir /var/lib/postgresql postgres) && \
    printf '#!/bin/sh\necho "postgres (PostgreSQL) $PG_MAJOR.1"\n' >/usr/local/bin/postgres && \
    chmod 755 /usr/local/bin/postgres
"""


@pytest.fixture(scope="module")
def base():
    tag = f"pgrouter/postgres-stand-in:{os.getpid()}"
    of = os.environ.get("BASE_IMAGE", STAND_INS["BASE_IMAGE"])
    subprocess.run(["docker", "build", "-q", "-t", tag, f"--build-arg=BASE_IMAGE={of}", "-"], input=BASE, text=True,
                   check=True, stdout=subprocess.DEVNULL, timeout=BUILD_S, env={**os.environ, "DOCKER_BUILDKIT": "1"})
    yield tag
    docker("rmi", tag, check=False)


def test_images_of_all_majors_are_built(base):
    """By the bake file: both targets of each, with the variables that their scripts go by."""
    repository = f"pgrouter-test-{os.getpid()}"
    images = {(major, target): f"{repository}/{name}:{major}" for major in MAJORS for target, name in NAMES.items()}
    try:
        docker("buildx", "bake", "--file", "docker/postgres/docker-bake.hcl", cwd=TOP, seconds=BUILD_S,
               env={**os.environ, "REPOSITORY": repository, "BASE_IMAGE": base, "TAG": ""})
        for (major, target), image in images.items():
            config = inspect(image)["Config"]
            assert f"PG_MAJOR={major}" in config["Env"]
            assert config["Entrypoint"] == ["/usr/local/bin/wrapper.sh"]
            assert ("8008/tcp" in config["ExposedPorts"]) == (target == "ha")
            assert config["Healthcheck"]["Test"]
    finally:
        for image in images.values():
            docker("rmi", image, check=False)


def test_a_base_of_another_major_is_refused(base):
    text = f"FROM {base}\nRUN sed -i 's/[$]PG_MAJOR/12/' /usr/local/bin/postgres\n"
    tag = f"pgrouter/postgres-stand-in:other-{os.getpid()}"
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    try:
        subprocess.run(["docker", "build", "-q", "-t", tag, "-"], input=text, text=True, check=True,
                       stdout=subprocess.DEVNULL, timeout=BUILD_S, env=environment)
        said = docker("build", "--progress=plain", "-f", "docker/postgres/Dockerfile", "--target=slim",
                      f"--build-arg=BASE_IMAGE={tag}", "--build-arg=PG_MAJOR=16", ".", check=False, cwd=TOP,
                      seconds=BUILD_S, env=environment)
        assert "BASE_IMAGE has postgres (PostgreSQL) 12.1, not 16" in said
    finally:
        docker("rmi", tag, check=False)
