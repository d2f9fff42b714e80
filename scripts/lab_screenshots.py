"""Make the lab's pictures for the documentation: ``python scripts/lab_screenshots.py`` (needs Chromium and playwright)."""

import sys

from sb3_lecture.lab.screenshots import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
