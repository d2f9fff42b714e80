"""Search hyperparameters: ``python scripts/tune.py --algo q_learning --n-trials 200``."""

import sys

from sb3_lecture.zoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
