"""The lab's server: the pages' files, one WebSocket a tab, and what starts and stops them."""

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from sb3_lecture.lab.guard import Guard
from sb3_lecture.lab.messages import LONGEST_MESSAGE
from sb3_lecture.lab.pages import IMPORTING, OPTIONS, PAGES, make_page
from sb3_lecture.lab.session import Session

STATIC = Path(__file__).parent / "static"
MOST_SESSIONS = 16
TRY_AGAIN_LATER = 1013
PORT = 8765
PORTS_TRIED = 50
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def make_app(token: str, port: int, names: tuple[str, ...] = ("localhost",)) -> ASGIApp:
    """The application, behind its guard.

    :param token: the secret in the URL
    :param port: at which browsers reach it
    :param names: host names that are ours, besides numeric addresses
    """
    sessions: set[Session] = set()

    async def shell(request: Request) -> Response:
        name = request.path_params.get("name")
        return FileResponse(STATIC / "index.html", 200 if name is None or name in PAGES else 404)

    async def pages(request: Request) -> Response:
        return JSONResponse({"pages": [{"name": name, "title": title} for name, title in PAGES.items()]})

    async def run_file(request: Request) -> Response:
        loaded = sys.modules.get("sb3_lecture.lab.log_folder")  # if not, no page has given a number yet
        try:
            path = loaded.current().file(request.path_params["number"], request.path_params["place"])  # type: ignore[union-attr]
        except (AttributeError, IndexError, OSError):
            return PlainTextResponse("There is no such file.\n", 404)
        return FileResponse(path)

    async def talk(websocket: WebSocket) -> None:
        name = websocket.path_params["name"]
        await websocket.accept()
        if name not in PAGES or len(sessions) >= MOST_SESSIONS:
            why = f"no page {name[:40]}" if name not in PAGES else f"{MOST_SESSIONS} pages are open; close one"
            await websocket.close(TRY_AGAIN_LATER, why)
            return
        session = Session(websocket, partial(make_page, name))
        sessions.add(session)
        try:
            await session.serve()
        finally:
            sessions.discard(session)

    routes = [
        Route("/", shell),
        Route("/page/{name}", shell),
        Route("/pages.json", pages),
        Route("/run/{number:int}/{place:int}", run_file),
        WebSocketRoute("/talk/{name}", talk),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Guard(Starlette(routes=routes), token, port, names)


def user_token() -> str:
    """The user's token, kept in a file that nobody else can read: a page that is open finds its restarted server again.

    ``lab-token`` in the folder of the user's state (``$XDG_STATE_HOME``, ``~/.local/state``, ``%LOCALAPPDATA%``); delete it
    for a new one. Where it cannot be kept, the token lives as long as the server.
    """
    home = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME")
    folder = (Path(home) if home else Path.home() / ".local" / "state") / "sb3_lecture"
    fresh = secrets.token_urlsafe(24)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with open(os.open(folder / "lab-token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(fresh)
        except FileExistsError:
            if os.name != "nt":
                (folder / "lab-token").chmod(0o600)
            kept = (folder / "lab-token").read_text().strip()
            return kept if len(kept) >= 24 else fresh
    except OSError:
        pass
    return fresh


def open_socket(host: str, port: int) -> socket.socket:
    """Listen at a port, or at the next free one.

    :param host: address or name of an interface
    :param port: first choice; 0: any
    :raises OSError: if none of the next ones is free, or the host is not this machine's
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if port == 0 else range(port, min(port + PORTS_TRIED, 65_536)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
        except OSError:
            listener.close()
            if candidate == min(port + PORTS_TRIED, 65_536) - 1 or port == 0:
                raise
        else:
            return listener
    raise AssertionError("a range of ports is never empty")


def _say(line: str) -> None:
    print(line, flush=True)  # into a pipe, too, at once


def serve(
    host: str = "127.0.0.1", port: int = PORT, browser: bool = True, say: Callable[[str], None] = _say, logs: str = "logs"
) -> int:
    """Serve the lab until Ctrl-C.

    :param host: interface to listen at
    :param port: first choice
    :param browser: whether to open one
    :param say: what prints a line
    :param logs: the folder whose runs are shown
    :return: exit code
    """
    OPTIONS["logs"] = logs
    with open_socket(host, port) as listener, contextlib.suppress(KeyboardInterrupt):
        taken, token = listener.getsockname()[1], user_token()
        shown = f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)
        url = f"http://{shown}:{taken}/?token={token}"
        if taken != port and port != 0:
            say(f"Port {port} is in use; the lab takes {taken}.")
        if host not in LOOPBACK:
            say(f"Warning: --host {host} lets other machines in; only the URL's token keeps them out, nothing is encrypted.")
        config = uvicorn.Config(
            make_app(token, taken, ("localhost", socket.gethostname(), host)), log_level="error", ws="websockets-sansio",
            ws_max_size=LONGEST_MESSAGE, ws_ping_interval=None, timeout_graceful_shutdown=1, lifespan="off",
        )  # fmt: skip
        threading.Thread(target=_warm_up, daemon=True).start()
        if browser and (sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            threading.Timer(0.5, webbrowser.open, [url]).start()
        say(f"The lab: {url}\nCtrl-C stops it.")
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
    say("The lab is closed.")
    return 0


def _warm_up() -> None:
    """Import and compile what the first page needs, while the browser starts."""
    with IMPORTING:
        from sb3_lecture.common.compiling import announce

        announce()
        make_page("gridworld").state()
