"""Fixtures of the tests of docker/: what the images run, outside of containers."""

import os
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.dirname(HERE), HERE]

from cluster.hooks import *  # noqa: E402,F401,F403


def pytest_runtest_setup(item):
    """An engine takes its time, and who runs the tests may have a limit."""
    deadline = os.environ.get("TEST_DEADLINE")
    if deadline and item.get_closest_marker("engine") and time.time() > float(deadline):
        pytest.skip("no time was left for it (TEST_DEADLINE)")
