"""``sb3-lecture lab``: start the browser lab."""

import argparse
import importlib.util

from sb3_lecture.zoo.errors import UserError

#: packages of the extra ``lab``, as they are imported
PACKAGES = ("starlette", "uvicorn", "websockets")


def options(parser: argparse.ArgumentParser) -> None:
    """Fill a parser."""
    parser.add_argument(
        "--port", type=int, default=8765, help="first choice; the next free one is taken (default 8765, 0: any)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="interface to listen at; others than this machine's own are warned of"
    )
    parser.add_argument("-f", "--log-folder", default="logs", help="folder of the runs that are shown (default logs)")
    parser.add_argument("--no-browser", action="store_true", help="print the URL and open no browser")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    :raises UserError: if a package is missing or the port is none
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"the lab needs {', '.join(missing)}: pip install 'sb3-lecture[lab]'")
    if not 0 <= args.port <= 65_535:
        raise UserError(f"--port {args.port}: ports are 0 to 65535")
    from sb3_lecture.lab.server import serve

    try:
        return serve(args.host, args.port, not args.no_browser, logs=args.log_folder)
    except OSError as error:
        raise UserError(f"--host {args.host} --port {args.port}: {error.strerror or error}") from error
