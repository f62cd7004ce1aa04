"""The Docker engine of this machine, if it has one."""

import json
import subprocess

ANSWER_S = 20


def why_none():
    """Why no image can be built and started here; None when they can."""
    for command, what in ((["docker", "version", "--format", "{{.Server.Version}}"], "no Docker engine answers"),
                          (["docker", "compose", "version"], "docker has no compose"),
                          (["docker", "buildx", "version"], "docker has no buildx")):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=ANSWER_S)
        except FileNotFoundError:
            return "there is no docker command"
        except subprocess.TimeoutExpired:
            return f"{what} within {ANSWER_S} s"
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().split("\n")[-1]
            return f"{what}: {said}"
    return None


def docker(*arguments, check=True, seconds=100, **more):
    """What the command prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False,
                          stdin=subprocess.DEVNULL, **more)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def inspect(thing):
    """What the engine knows of a container or an image."""
    return json.loads(docker("inspect", thing))[0]
