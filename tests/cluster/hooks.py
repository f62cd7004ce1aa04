"""How a run of pytest goes, for the conftest.py of each folder of tests."""

import json
import os
import signal

import pytest

__all__ = ["pytest_collection_finish", "pytest_runtest_protocol", "pytest_sessionfinish",
           "pytest_sessionstart", "pytest_terminal_summary", "pytest_testnodedown",
           "pytest_xdist_node_collection_finished"]

TEST_TIMEOUT_S = 120


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """Nothing may hang a run: a test that takes too long fails with a traceback."""
    marker = item.get_closest_marker("takes")
    seconds = marker.args[0] if marker else TEST_TIMEOUT_S

    def on_alarm(_number, _frame):
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_sessionfinish(session):
    """Where tests run in several processes, each tells the one that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["n_rebuilt"] = getattr(session.config, "n_rebuilt", 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    del error
    n_rebuilt = getattr(node, "workeroutput", {}).get("n_rebuilt", 0)
    node.config.n_rebuilt = getattr(node.config, "n_rebuilt", 0) + n_rebuilt


def pytest_collection_finish(session):
    session.config.n_chosen = len(session.items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node, ids):
    node.config.n_chosen = len(ids)


def pytest_terminal_summary(terminalreporter, config):
    """Why tests were skipped, and numbers for the table at the end of tests/run."""
    if getattr(config, "n_rebuilt", 0):
        terminalreporter.line(f"the cluster had to be made anew {config.n_rebuilt} times")
    stats = terminalreporter.stats
    skipped = [{"test": report.nodeid, "why": report.longrepr[2].removeprefix("Skipped: ")}
               for report in stats.get("skipped", [])]
    if skipped:
        terminalreporter.section("skipped")
        for entry in skipped:
            terminalreporter.line(f"{entry['test']}: {entry['why']}")
    if os.environ.get("PGROUTER_SUMMARY"):
        failed = {report.nodeid: _why_failed(report)
                  for kind in ("failed", "error") for report in stats.get(kind, [])}
        passed = {report.nodeid for report in stats.get("passed", [])} - failed.keys()
        with open(os.environ["PGROUTER_SUMMARY"], "w", encoding="utf-8") as file:
            json.dump({"chosen": getattr(config, "n_chosen", 0), "passed": len(passed),
                       "failed": failed, "skipped": skipped}, file)


def _why_failed(report):
    """A line: where and with which message."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return str(report.longrepr).strip().split("\n")[-1]
    return f"{os.path.basename(crash.path)}:{crash.lineno}: {' '.join(crash.message.split())}"


def pytest_sessionstart(session):
    def on_signal(number, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_signal)
