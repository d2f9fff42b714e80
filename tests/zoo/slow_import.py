"""Imported by the server that forks the workers: says that it is being imported, and takes for ever."""

import os
import time
from pathlib import Path

Path(os.environ["SLOW_IMPORT"]).write_text(str(os.getpid()))
while True:
    time.sleep(0.01)
