"""One thread a test process: the processes of ``-n 2`` already fill two cores, and small networks gain nothing from more.

Hypothesis measures no time: a busy machine is no failure.
"""

import os

import pytest
from hypothesis import settings

#: files whose tests train, compile for one class after the other, or start processes: ``pytest -m fast`` leaves them out
LONG = {
    "test_docs_run.py", "common/test_compiling.py", "zoo/test_pretrained.py",
    "test_contract.py", "test_resume.py", "test_deep_arguments.py", "test_architecture.py",
    "tabular/test_arguments.py", "tabular/test_backends.py", "tabular/test_book_figures.py", "tabular/test_control.py",
    "model_based/test_alphazero.py", "model_based/test_muzero.py",
    "policy_gradient/test_policy_gradient_learning.py", "value_based/test_barebone_dqn_learning.py",
    "envs/test_worlds.py", "envs/board/test_board_env.py", "search/test_search.py", "common/test_checkpoint.py",
    "lab/test_browser.py", "lab/test_pages.py", "lab/test_server.py",
    "zoo/test_cli.py", "zoo/test_configs.py", "zoo/test_fuzz.py", "zoo/test_gtp.py", "zoo/test_resume_run.py",
    "zoo/test_tuning_crash.py", "zoo/test_tuning_orphans.py", "zoo/test_tuning_report.py", "zoo/test_tuning_servers.py",
    "zoo/test_tuning_storage.py", "zoo/test_tuning_study.py",
}  # fmt: skip

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when numpy and torch are first imported; subprocesses inherit it

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is fast."""
    here = os.path.dirname(__file__)
    for item in items:
        if os.path.relpath(item.path, here).replace(os.sep, "/") not in LONG and item.get_closest_marker("slow") is None:
            item.add_marker("fast")
