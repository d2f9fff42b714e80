"""Watch a trained agent: ``python scripts/enjoy.py --algo dqn``."""

import sys

from sb3_lecture.zoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["enjoy", *sys.argv[1:]]))
