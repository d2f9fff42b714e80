"""Where compiled code is kept when neither the package nor the user's home can be written to.

Numba keeps what it compiles beside the source, or else in the user's cache folder, and refuses to import a function that asks
for a cache where it has neither (a package installed by root, a home that is read-only: clusters, containers). Then a folder
of the user's below the system's temporary folder takes their place, until the machine forgets it.
"""

import os
import stat
import sys
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _user_cache() -> Path:
    """Numba's folder in the user's home."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "numba"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "numba"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"


def _private_folder() -> Path:
    """A folder below the temporary one that nobody else can write to: what lies in it is run."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"sb3-lecture-numba-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022 and _writable(folder):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="sb3-lecture-numba-"))  # of this process alone


def ensure_cache() -> None:
    """Give numba a folder for what it compiles, if the user named none and there would be no other."""
    if os.environ.get("NUMBA_CACHE_DIR") or _writable(_PACKAGE / "__pycache__") or _writable(_user_cache()):
        return
    folder = str(_private_folder())
    os.environ["NUMBA_CACHE_DIR"] = folder  # read when numba is imported; processes that are started inherit it
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.config.CACHE_DIR = folder
