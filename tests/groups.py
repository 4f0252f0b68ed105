"""The groups of tests that run in one process, and their order."""

from __future__ import annotations

from pathlib import PurePosixPath

#: Tests with services that have models in their own process. They run with the unit tests, whose
#: process has imported the libraries.
IN_PROCESS = "tests/integration/test_worker_task.py"

#: Files and folders whose tests share a service that is slow to start, by the name of their group.
TOGETHER = {
    "tests/acceptance/search": "stub",
    "tests/acceptance/watching": "watched",
    "tests/integration/http": "http",
    **dict.fromkeys(
        (
            f"tests/acceptance/test_{name}.py"
            for name in ("compare", "documented_commands", "http", "sample", "splitting", "worker")
        ),
        "bundled model",
    ),
    # These share the imported model libraries with that worker.
    **dict.fromkeys(
        (
            "tests/acceptance/test_odd_models.py",
            "tests/acceptance/search/test_command.py",
            "tests/acceptance/test_pools.py",
            "tests/acceptance/test_passages.py",
            "tests/acceptance/test_shared_models.py",
            "tests/integration/test_host_process.py",
        ),
        "bundled model",
    ),
    **dict.fromkeys(
        (
            f"tests/acceptance/test_{name}.py"
            for name in ("cli", "compare_llm", "dead", "integrations", "outputs", "rescore")
        ),
        "stub",
    ),
}
#: The groups that take longest. None should be started when all others are done.
LONGEST = (
    "bundled model",
    "tests/soak/test_soak.py",
    "stub",
    "tests/acceptance/test_stack.py",
    "tests/acceptance/faults/test_deliveries.py",
    "tests/acceptance/faults/test_memory.py",
    "watched",
    "tests/acceptance/faults/test_redis.py",
    "tests/acceptance/test_resume.py",
    "http",
    "tests/acceptance/test_log.py",
    "tests/acceptance/test_acl.py",
    "tests/integration/test_client_waiting.py",
    "tests/integration/test_sweeper.py",
)


def group(nodeid: str) -> str:
    """Return the name of the group of a test: by default, its file."""
    file = nodeid.partition("::")[0]
    return TOGETHER.get(file) or TOGETHER.get(str(PurePosixPath(file).parent)) or file


def place(nodeid: str) -> int:
    """Return the place of the test's group in the order."""
    name = group(nodeid)
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
