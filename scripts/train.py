"""Train an agent: ``python scripts/train.py --algo dqn``."""

import sys

from sb3_lecture.zoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
