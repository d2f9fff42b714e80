"""One thread a test process: the processes of ``-n 2`` already fill two cores, and small networks gain nothing from more.

Hypothesis measures no time: a busy machine is no failure.
"""

import os

from hypothesis import settings

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when numpy and torch are first imported; subprocesses inherit it

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
