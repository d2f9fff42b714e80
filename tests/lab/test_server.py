"""The server: who is let in, what it takes, what it survives."""

import asyncio
import builtins
import contextlib
import functools
import importlib.util
import json
import random
import socket
import stat
import threading

import pytest
from lab_helpers import Lab

from sb3_lecture.lab import server
from sb3_lecture.lab.guard import Guard
from sb3_lecture.lab.messages import LONGEST_MESSAGE
from sb3_lecture.lab.pages import PAGES, make_page
from sb3_lecture.lab.server import MOST_SESSIONS, open_socket, user_token
from sb3_lecture.lab.session import PATIENCE
from sb3_lecture.zoo import cli

websockets = pytest.importorskip("websockets.sync.client")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402


def request(lab, path="/", method="GET", **headers):
    """One HTTP request, word by word; returns status, headers, body."""
    lines = {"Host": f"127.0.0.1:{lab.port}"} | {key.replace("_", "-"): value for key, value in headers.items()}
    with socket.create_connection(("127.0.0.1", lab.port), timeout=60) as wire:
        head = "".join(f"{key}: {value}\r\n" for key, value in lines.items() if value is not None)
        wire.sendall(f"{method} {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode("latin-1"))
        answer = b""
        while piece := wire.recv(65_536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}, body.decode()


def cookie(lab, token=None):
    return f"sb3_lecture_lab_{lab.port}={token or lab.token}"


def talk(lab, name="treasure_line", origin="", host=None, token=None):
    """A WebSocket as a page opens it, and the state it is greeted with."""
    headers = {"Cookie": cookie(lab, token)} | ({} if host is None else {"Host": host})
    wire = websockets.connect(
        f"ws://127.0.0.1:{lab.port}/talk/{name}", origin=origin if origin is None else origin or lab.base,
        additional_headers=headers, open_timeout=60, max_size=None, proxy=None,
    )  # fmt: skip
    return wire


def hello(wire):
    return json.loads(wire.recv(timeout=120))


def ask(wire, message):
    """Send a message with an id; return its answer, frames left out."""
    ask.id = getattr(ask, "id", 0) + 1
    wire.send(json.dumps({"id": ask.id, **message}))
    while True:
        answer = json.loads(wire.recv(timeout=120))
        if answer.get("id") == ask.id:
            return answer


# --- who is let in


def test_the_url_s_token_becomes_a_cookie_and_leaves_the_address(lab):
    status, headers, _ = request(lab, f"/page/gridworld?token={lab.token}&x=1")
    assert status == 303 and headers["location"] == "/page/gridworld?x=1"
    assert all(word in headers["set-cookie"].lower() for word in (cookie(lab).lower(), "httponly", "samesite=strict"))
    status, headers, body = request(lab, "/page/gridworld", Cookie=cookie(lab))
    assert status == 200 and "shell.js" in body and "default-src 'self'" in headers["content-security-policy"]


def test_a_path_with_two_slashes_leads_nowhere_else(lab):
    status, headers, _ = request(lab, f"//evil.example/?token={lab.token}")
    assert status == 303 and headers["location"] == "/evil.example/"


@pytest.mark.parametrize("path", ["/", "/page/gridworld", "/pages.json", "/static/shell.js", "/nothing"])
@pytest.mark.parametrize("token", [None, "", "x", "wrong-token-of-quite-some-length"])
def test_without_the_token_there_is_nothing(lab, path, token):
    assert request(lab, path)[0] == 403
    assert request(lab, path, Cookie=cookie(lab, token or "0"))[0] == 403
    if token is not None:
        assert request(lab, f"{path}?token={token}", Cookie=cookie(lab))[0] == 403  # a wrong one counts before a right cookie


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.evil.example:{port}",
        "",
        ":{port}",
        "127.1:{port}",
    ],
)
def test_another_host_name_is_refused_for_pages_and_sockets(lab, host):
    host = host.format(port=lab.port)
    assert request(lab, "/", Host=host, Cookie=cookie(lab))[0] in (400, 403)
    status, _, _ = request(lab, "/talk/gridworld", Host=host, Cookie=cookie(lab), Origin=f"http://{host}", Upgrade="websocket",
                           Sec_WebSocket_Version="13", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
    assert status in (400, 403)


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_our_own_names_are_let_in(lab, host):
    assert request(lab, "/", Host=host.format(port=lab.port), Cookie=cookie(lab))[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "null", None])
def test_another_origin_opens_no_socket(lab, origin):
    with pytest.raises(InvalidStatus, match="403"):
        talk(lab, origin=origin and origin.format(port=lab.port))
    if origin is not None:
        assert request(lab, "/", Origin=origin.format(port=lab.port), Cookie=cookie(lab))[0] == 403


def test_a_wrong_token_opens_no_socket(lab):
    with pytest.raises(InvalidStatus, match="403"):
        talk(lab, token="wrong-token-of-quite-some-length")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(lab, method):
    assert request(lab, "/", method, Cookie=cookie(lab), Content_Length="0")[0] == 403


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/page/nothing"])
def test_no_other_file_is_served(lab, path):
    assert request(lab, path, Cookie=cookie(lab))[0] == 404


@pytest.mark.parametrize(
    "path", ["/run/0/0", "/run/-1/0", "/run/99999999999999999999/0", "/run/0/../../etc/passwd", "/run/x/y"]
)
def test_no_file_is_had_by_a_number_that_is_none(lab, path):
    assert request(lab, path, Cookie=cookie(lab))[0] == 404
    assert request(lab, path)[0] == 403


def test_only_numbers_and_our_names_are_hosts():
    guard = Guard(None, "t", 80, ("localhost", "box"))
    assert guard._is_ours("box") and guard._is_ours("10.0.0.1:80") and guard._is_ours("[::1]:80")
    assert not guard._is_ours("box.example") and not guard._is_ours("box:8080") and not guard._is_ours("[::1")


# --- what it takes


def test_settings_and_actions_are_answered(lab):
    with talk(lab) as wire:
        greeting = hello(wire)
        assert {c["name"] for c in greeting["hello"]["controls"]} >= {"alpha", "gamma", "steps"}
        assert ask(wire, {"set": {"alpha": 0.5, "steps": 10}})["state"]["settings"]["alpha"] == 0.5
        assert ask(wire, {"do": "step"})["state"]["settings"]["steps"] == 11
        refused = ask(wire, {"set": {"alpha": 5}})
        assert "alpha=5" in refused["error"] and refused["state"]["settings"]["alpha"] == 0.5


def test_two_tabs_share_nothing(lab):
    with talk(lab) as one, talk(lab) as two:
        hello(one), hello(two)
        ask(one, {"set": {"alpha": 0.9, "steps": 500}})
        other = ask(two, {"set": {"seed": 3}})["state"]
        assert other["settings"]["alpha"] == 0.1 and other["settings"]["steps"] == 0
        assert ask(one, {"do": "step"})["state"]["settings"]["steps"] == 501


def test_a_playing_page_waits_for_its_frames_to_be_drawn(lab):
    with talk(lab) as wire:
        hello(wire)
        ask(wire, {"set": {"speed": 3000}})
        wire.send('{"id": 999, "do": "play"}')
        frames = []
        while len(frames) < 5:
            message = json.loads(wire.recv(timeout=120))
            if "frame" in message:
                frames.append(message["state"]["settings"]["steps"])
                wire.send(json.dumps({"ack": message["frame"]}))
        assert frames == [100, 200, 300, 400, 500]  # 3000 a second, 30 frames, none left out
        paused = ask(wire, {"do": "pause"})["state"]
        assert not paused["playing"] and paused["settings"]["steps"] in (500, 600)


def test_a_frame_that_is_not_drawn_is_followed_by_none(lab):
    with talk(lab) as wire:
        hello(wire)
        ask(wire, {"set": {"speed": 3000}})
        ask(wire, {"do": "play"})
        steps = [ask(wire, {"set": {"speed": 3000}})["state"]["settings"]["steps"] for _ in range(20)]
        assert max(steps) <= 200  # one frame is out, one more may be under way


def test_an_oversize_message_closes_the_socket(lab):
    with talk(lab) as wire:
        hello(wire)
        wire.send(" " * (LONGEST_MESSAGE + 1))
        with pytest.raises(ConnectionClosed) as closed:
            wire.recv(timeout=60)
        assert closed.value.rcvd.code == 1009


def test_whoever_sends_nonsense_without_end_is_cut_off(lab):
    with talk(lab) as wire:
        hello(wire)
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(PATIENCE + 1):
                wire.send("nonsense")
                assert "JSON" in json.loads(wire.recv(timeout=60))["error"]
        assert closed.value.rcvd.code == 1008


def test_too_many_tabs_are_told_to_wait(lab):
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_SESSIONS):
            hello(stack.enter_context(talk(lab)))
        with talk(lab) as one_more, pytest.raises(ConnectionClosed) as closed:
            one_more.recv(timeout=60)
        assert closed.value.rcvd.code == 1013 and "close one" in closed.value.rcvd.reason
    with talk(lab, "nothing") as nothing, pytest.raises(ConnectionClosed, match="no page nothing"):
        nothing.recv(timeout=60)


@functools.cache
def controls_of(name):
    return list(make_page(name).controls)


def random_message(rng, name):
    leaf = lambda: rng.choice([None, True, -1, 0, 0.5, 1e308, 10**30, "", "step", "S.G", "#", "\x00", "é" * 50, [], {}, [[]]])  # noqa: E731
    controls = controls_of(name)
    form = rng.randrange(10)
    if form == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
    if form == 1:
        return "".join(rng.choice('{}[]":,0123456789truefalsn\\u ') for _ in range(rng.randrange(60)))
    if form == 2:
        return json.dumps({rng.choice(["id", "do", "set", "ack", "hello", ""]): leaf() for _ in range(rng.randrange(4))})
    if form == 3:
        return json.dumps({"id": leaf(), "do": leaf()})
    if form == 4:
        return json.dumps(
            {"id": 1, "do": rng.choice(["step", "episode", "reset", "undo", "play", "pause", "__init__", "state", "tick"])}
        )
    if form == 5:
        rows = "\n".join(
            "".join(rng.choice("#.SGPTC5-") for _ in range(rng.randrange(1, 8))) for _ in range(rng.randrange(1, 6))
        )
        return json.dumps({"id": 1, "set": {"map": rows}})
    if form < 8:  # what a control would send
        control = rng.choice(controls)
        if control.describe()["kind"] == "choice":
            value = rng.choice(list(control.options))
        elif control.describe()["kind"] == "number":
            value = rng.choice([control.low, control.default, min(control.high, 2000), 3])
        else:
            value = rng.choice(["", "b2", "4 4", "D4 pass", "1-1 2-2", "nothing", "4 " * 50])
        return json.dumps({"id": 1, "set": {control.name: value}})
    return json.dumps(
        {"id": 1, "set": {rng.choice([c.name for c in controls] + ["x"]): leaf() for _ in range(rng.randrange(3))}}
    )


QUICK = ("gridworld",)  # the treasure line takes ten seconds


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in PAGES])
def test_a_thousand_fuzzed_messages_leave_the_server_alive(lab, name):
    rng, sent = random.Random(0), 0
    while sent < 1000:
        with talk(lab, name) as wire, contextlib.suppress(ConnectionClosed):
            hello(wire)
            while sent < 1000:  # or until it is out of patience
                wire.send(random_message(rng, name))
                sent += 1
    with talk(lab) as fine:
        hello(fine)
        assert ask(fine, {"set": {"steps": 7}})["state"]["settings"]["steps"] == 7


# --- ports, tokens, hosts, packages


def test_a_port_in_use_gives_the_next_free_one():
    with open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with open_socket("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] < port + 50


def test_the_token_is_kept_where_only_the_user_can_read_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    token = user_token()
    path = tmp_path / "sb3_lecture" / "lab-token"
    assert len(token) >= 24 and path.read_text() == token == user_token()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    assert len(user_token()) >= 24
    path.unlink()
    assert user_token() != token


def test_a_token_that_cannot_be_kept_is_made_anew(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert user_token() != user_token()


def test_other_hosts_are_warned_of(monkeypatch):
    said = []
    monkeypatch.setattr(server, "_warm_up", lambda: None)
    monkeypatch.setattr(server, "user_token", lambda: "t" * 24)
    monkeypatch.setattr(asyncio, "run", lambda coroutine: coroutine.close())
    server.serve("0.0.0.0", 0, False, said.append)
    assert "Warning: --host 0.0.0.0" in said[0] and "http://127.0.0.1:" in said[1]
    said.clear()
    server.serve("127.0.0.1", 0, False, said.append)
    assert not any("Warning" in line for line in said)


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "websockets"])
def test_a_missing_package_is_one_line(monkeypatch, capsys, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    assert cli.main(["lab", "--no-browser"]) == 2
    assert capsys.readouterr().err == f"error: the lab needs {package}: pip install 'sb3-lecture[lab]'\n"


@pytest.mark.parametrize("words", [["--port", "70000"], ["--port", "-1"], ["--host", "256.1.1.1"]])
def test_a_wrong_address_is_one_line(capsys, words):
    assert cli.main(["lab", "--no-browser", *words]) == 2
    assert capsys.readouterr().err.startswith("error: --")


def test_help_needs_no_package_of_the_extra(monkeypatch, capsys):
    real = builtins.__import__

    def fail(name, *rest, **named):
        assert name.split(".")[0] not in ("starlette", "uvicorn", "websockets"), name
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(SystemExit):
        cli.main(["lab", "--help"])
    assert "--no-browser" in capsys.readouterr().out


@pytest.mark.slow
def test_pages_that_are_opened_at_once_on_a_fresh_lab_all_come(tmp_path):
    """Their threads import the same modules in other orders; one at a time, or Python refuses one of them."""
    fresh, seen = Lab(tmp_path), {}

    def come(name):
        with talk(fresh, name) as wire:
            seen[name] = hello(wire)

    try:
        threads = [threading.Thread(target=come, args=(name,)) for name in PAGES]
        for thread in threads:
            thread.start()
        assert request(fresh, "/run/0/0", Cookie=cookie(fresh))[0] == 404
        for thread in threads:
            thread.join(timeout=120)
        assert set(seen) == set(PAGES) and all("hello" in greeting for greeting in seen.values())
    finally:
        fresh.stop()
