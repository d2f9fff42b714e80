"""Make the models of pretrained/, each by the one command that its card shows: ``python scripts/pretrain.py [ALGO/ENV …]``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sb3_lecture.zoo.pretrained import make_all

if __name__ == "__main__":
    sys.exit(make_all(sys.argv[1:]))
