"""Fixtures of the tests of docker/: what the images run, outside of containers."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.dirname(HERE), HERE]

from cluster.hooks import *  # noqa: E402,F401,F403
