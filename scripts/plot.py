"""Draw learning curves and value maps: ``python scripts/plot.py logs/dqn``."""

import sys

from sb3_lecture.zoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["plot", *sys.argv[1:]]))
