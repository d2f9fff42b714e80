"""A lab in a process of its own, as a person starts it, and what browser tests wait for."""

import os
import re
import signal
import subprocess
import sys


class Lab:
    """``sb3-lecture lab`` as a person starts it."""

    def __init__(self, folder, port=0):
        self.folder = folder
        self.start(port)

    def start(self, port):
        environment = os.environ | {"XDG_STATE_HOME": str(self.folder), "OMP_NUM_THREADS": "1"}
        # Ctrl-C counts, though what runs the tests may ignore it, as a shell's background jobs do
        code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code += "from sb3_lecture.zoo.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "lab", "--no-browser", "--port", str(port), "-f", str(self.folder / "logs")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.said = []
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", self.said[-1] if self.said else "")):
            line = self.process.stdout.readline()
            assert line, f"the lab ended: {self.said}"
            self.said.append(line)
        self.url, self.port, self.token = found.group(), int(found.group(1)), found.group(2)
        self.base = f"http://127.0.0.1:{self.port}"

    def stop(self, by=signal.SIGINT):
        self.process.send_signal(by)
        rest, _ = self.process.communicate(timeout=60)
        return rest, self.process.returncode

    def restart(self):
        self.stop(signal.SIGKILL)
        self.start(self.port)


def settled(page):
    """Wait until the page's last message was answered and drawn."""
    page.wait_for_function(
        "() => { const m = window.lab; return m.connected && !m.busy && !Object.keys(m.pending).length && !m.orders.length; }",
        timeout=120_000,
    )
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def state(page, *path):
    return page.evaluate("(path) => path.reduce((x, key) => x[key], window.lab.state)", list(path))


def move(page, name, by):
    """Move a slider with the keyboard."""
    slider = page.locator(f"[data-control={name}]")
    slider.focus()
    for _ in range(abs(by)):
        slider.press("ArrowRight" if by > 0 else "ArrowLeft")
    settled(page)


def click(page, name):
    page.locator(f"[data-do={name}]").first.click()
    settled(page)
