"""Speed of the tree search beside mctx, OpenSpiel, LightZero and a hand-written reference.

Peers live in environments of their own: the folder ``PEERS`` holds venvs ``jaxv`` (jax, mctx), ``ospiel`` (open_spiel) and
``lz`` (LightZero's compiled tree, its checkout in ``LIGHTZERO``); ``MCTS_LIMIT`` is the path of a reference script that hands
its jobs to ``_common.rate``. What is missing is named and left out. A peer runs in a process of its own that answers one
measurement at a time, so that ours and theirs take turns. Rates are per CPU second of the process measured: other load
favours neither.

    PEERS=… LIGHTZERO=… MCTS_LIMIT=… python scripts/benchmark.py search
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks._measure import Row

os.environ.setdefault("OMP_NUM_THREADS", "1")

REPEATS, SECONDS, SIMULATIONS, WIDTH = 5, 0.5, 50, 128

#: a peer's side of the conversation: "warm" or "go" on a line, a rate on a line back
SERVER = """
import sys, time
def serve(job):
    n = 1
    for line in sys.stdin:
        done, c = 0, time.process_time()
        while True:
            done += job(n)
            spent = time.process_time() - c
            if spent > {seconds}:
                break
            n = max(n, min(64, int(n * {seconds} / max(spent, 1e-3) / 4)))
        print("rate", done / spent, flush=True)
"""

MCTX = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
import jax, jax.numpy as jnp, mctx
policy_name, batch, sims, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
lines = []
for r in range(6):
    for c in range(7):
        for dr, dc in ((0, 1), (1, 0), (1, 1), (-1, 1)):
            run = [(r + i * dr, c + i * dc) for i in range(4)]
            if all(0 <= y < 6 and 0 <= x < 7 for y, x in run):
                lines.append([7 * y + x for y, x in run])
lines = jnp.array(lines)
def legal(s):
    return ~s[0].any(1)[:, :7]
def step(s, a):
    planes, over = s
    used = planes.any(1)
    height = jnp.take_along_axis(used.reshape(-1, 6, 7), a[:, None, None], 2).sum((1, 2))
    stone = jax.nn.one_hot((5 - height) * 7 + a, 42, dtype=jnp.bool_) & ~over[:, None]
    mine = planes[:, 0] | stone
    won = mine[:, lines].all(-1).any(-1) & ~over
    planes = jnp.stack([planes[:, 1], mine], 1)
    return (planes, over | won | planes.any(1).all(-1)), won.astype(jnp.float32)
keys = jax.random.split(jax.random.key(0), 4)
sizes = [(84, width), (width, width), (width, 7), (width, 1)]
ws = [jax.random.normal(k, z) / z[0] ** 0.5 for k, z in zip(keys, sizes)]
def net(ws, s):
    h = jax.nn.relu(jax.nn.relu(s[0].reshape(batch, -1).astype(jnp.float32) @ ws[0]) @ ws[1])
    return jnp.where(legal(s), h @ ws[2], -1e9), jnp.tanh(h @ ws[3])[:, 0]
def recurrent(ws, key, a, s):
    s, r = step(s, a)
    logits, v = net(ws, s)
    out = mctx.RecurrentFnOutput(reward=r, discount=jnp.where(s[1], 0.0, -1.0), prior_logits=logits,
                                 value=jnp.where(s[1], 0.0, v))
    return out, s
policy = getattr(mctx, policy_name + "_policy")
@jax.jit
def search(ws, key, s):
    logits, v = net(ws, s)
    root = mctx.RootFnOutput(prior_logits=logits, value=v, embedding=s)
    return policy(ws, key, root, recurrent, sims, invalid_actions=~legal(s)).action
start = (jnp.zeros((batch, 2, 42), jnp.bool_), jnp.zeros(batch, jnp.bool_))
jax.block_until_ready(search(ws, jax.random.key(1), start))
def job(n):
    for i in range(n):
        out = search(ws, jax.random.key(i), start)
    jax.block_until_ready(out)
    return n * batch * sims
serve(job)
"""

OPEN_SPIEL = """
import sys, pyspiel
game, sims = pyspiel.load_game(sys.argv[1]), int(sys.argv[2])
bot = pyspiel.MCTSBot(game, pyspiel.RandomRolloutEvaluator(1, 0), 1.4, sims, 1000, False, 0, False)
root = game.new_initial_state()
def job(n):
    for _ in range(n):
        bot.mcts_search(root)
    return n * sims
serve(job)
"""

LIGHT_ZERO = """
import sys, numpy as np, torch
from lzero.mcts.ctree.ctree_muzero import mz_tree
torch.set_num_threads(1)
batch, sims, A, width = int(sys.argv[1]), int(sys.argv[2]), 7, int(sys.argv[3])
body = torch.nn.Sequential(torch.nn.Linear(width + A, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU())
head = torch.nn.Linear(width, A + 2)
def job(n):
    with torch.inference_mode():
        for _ in range(n):
            logits = np.random.randn(batch, A).astype(np.float32).tolist()
            noise = np.random.dirichlet([0.3] * A, batch).astype(np.float32).tolist()
            roots = mz_tree.Roots(batch, [list(range(A))] * batch)
            roots.prepare(0.25, noise, [0.0] * batch, logits, [-1] * batch)
            bounds = mz_tree.MinMaxStatsList(batch)
            bounds.set_delta(0.01)
            pool = np.zeros((sims + 1, batch, width), np.float32)
            for i in range(sims):
                found = mz_tree.ResultsWrapper(num=batch)
                ix, iy, action, to_play = mz_tree.batch_traverse(roots, 19652, 1.25, 0.997, bounds, found, [-1] * batch)
                one_hot = torch.nn.functional.one_hot(torch.as_tensor(action), A).float()
                h = body(torch.cat([torch.from_numpy(pool[ix, iy]), one_hot], 1))
                y = head(h).numpy()
                pool[i + 1] = h.numpy()
                mz_tree.batch_backpropagate(i + 1, 0.997, y[:, A].tolist(), y[:, A + 1].tolist(), y[:, :A].tolist(),
                                            bounds, found, to_play)
            roots.get_distributions()
    return n * batch * sims
serve(job)
"""

#: the reference script hands its jobs, one after the other, to ``_common.rate``: the one asked for is served
LIMIT = """
import os, runpy, sys
script, batch, sims = sys.argv[1:]
sys.argv = [script, "--sims", sims]
sys.path.insert(0, os.path.dirname(script))
import _common
def rate(what, job, unit):
    if what == f"connect_four: limit: numba PUCT + torch MLP2x128, batch {batch}":
        serve(lambda n: sum(job() for _ in range(n)))
        sys.exit()
_common.rate = rate
runpy.run_path(script)
"""


class Peer:
    """A process in a peer's environment that measures itself when asked.

    :param venv: name of the environment in ``PEERS``, or the path of a Python
    :param code: what it runs; its last act is ``serve(job)``
    :param arguments: its command line
    :raises RuntimeError: where the environment or a package in it is missing
    """

    def __init__(self, venv: str, code: str, *arguments: object) -> None:
        python = Path(venv) if os.sep in venv else Path(os.environ.get("PEERS", "peers")) / venv / "bin" / "python"
        if not python.exists():
            raise RuntimeError(f"no environment {python} (set PEERS)")
        text = SERVER.format(seconds=SECONDS) + code
        environment = {**os.environ, "PYTHONPATH": os.environ.get("LIGHTZERO", "")}
        command = [str(python), "-c", text, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def rate(self) -> float:
        """Return units per CPU second of one measurement."""
        assert self.process.stdin and self.process.stdout and self.process.stderr
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; its last words follow
        for line in self.process.stdout:
            if line.startswith("rate "):
                return float(line.split()[1])
        words = self.process.stderr.read().strip().splitlines()
        raise RuntimeError(words[-1] if words else "the peer's process ended")

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def our_rate(job: Callable[[], int]) -> float:
    """Return units per CPU second of a job that returns how many units it did."""
    done, start = 0, time.process_time()
    while (spent := time.process_time() - start) < SECONDS:
        done += job()
    return done / spent


def versus(
    what: str, job: Callable[[], int], venv: str, code: str, arguments: tuple[object, ...], floor: float
) -> Iterator[Row]:
    """Yield one row, ours and the peer's in turn, or say why there is none."""
    try:
        peer = Peer(venv, code, *arguments)
        peer.rate()
    except RuntimeError as error:
        print(f"left out: {what}: {error}", flush=True)
        return
    job()
    pairs = [(our_rate(job), peer.rate()) for _ in range(REPEATS)]
    peer.close()
    yield Row(what, "simulations/s", [ours for ours, _ in pairs], [theirs for _, theirs in pairs], floor)


def connect_four_job(batch: int, selection: str, network: str) -> Callable[[], int]:
    """Return a search from the start of Connect Four with a random MLP 2 × 128: "compiled" or "torch"."""
    import torch as th

    from sb3_lecture.search.compiled_mlp import CompiledMLP
    from sb3_lecture.search.mcts import MCTS
    from sb3_lecture.search.simulators import GameSimulator
    from sb3_lecture_envs.board.connect_four import ConnectFour

    th.set_num_threads(1)
    th.manual_seed(0)
    body = th.nn.Sequential(th.nn.Linear(84, WIDTH), th.nn.ReLU(), th.nn.Linear(WIDTH, WIDTH), th.nn.ReLU())
    head = th.nn.Linear(WIDTH, 8)

    def evaluate(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with th.inference_mode():
            y = head(body(th.from_numpy(x.reshape(len(x), -1)))).numpy()
        return y[:, :7], np.tanh(y[:, 7])

    evaluator = CompiledMLP.from_torch(body, heads=(head,)) if network == "compiled" else evaluate
    search = MCTS(GameSimulator(ConnectFour()), evaluator, SIMULATIONS, selection, seed=0)
    states = ConnectFour().initial(batch)

    def job() -> int:
        search.search(states, noise=True)
        return batch * SIMULATIONS

    return job


def learned_model_job(batch: int, network: str) -> Callable[[], int]:
    """Return a search in a random latent model, 128 numbers a state, MLP 2 × 128, 7 actions: "compiled" or "torch"."""
    import torch as th

    from sb3_lecture.search.compiled_mlp import CompiledMLP
    from sb3_lecture.search.mcts import MCTS
    from sb3_lecture.search.simulators import CompiledModel, Expansion, ModelSimulator, Root

    th.set_num_threads(1)
    body = th.nn.Sequential(th.nn.Linear(WIDTH + 7, WIDTH), th.nn.ReLU(), th.nn.Linear(WIDTH, WIDTH), th.nn.ReLU())
    head = th.nn.Linear(WIDTH, 9)
    inputs, rows = np.zeros((batch, WIDTH + 7), np.float32), np.arange(batch)

    def step(embeddings: np.ndarray, actions: np.ndarray) -> Expansion:
        inputs[:, :WIDTH] = embeddings
        inputs[:, WIDTH:] = 0.0
        inputs[rows, WIDTH + actions] = 1.0
        with th.inference_mode():
            h = body(th.from_numpy(inputs))
            y = head(h).numpy()
        return Expansion(h.numpy(), y[:, 8], 0.997, y[:, :7], y[:, 7])

    rng = np.random.default_rng(0)
    compiled = CompiledModel(CompiledMLP.from_torch(body[:3]), CompiledMLP.from_torch(head), 0.997)
    simulator = compiled if network == "compiled" else ModelSimulator(step, 7)
    search = MCTS(simulator, n_simulations=SIMULATIONS, seed=0)

    def job() -> int:
        logits = rng.normal(size=(batch, 7))
        search.search(Root(np.zeros((batch, WIDTH), np.float32), logits, np.zeros(batch)), noise=True)
        return batch * SIMULATIONS

    return job


def rollout_job(name: str, batch: int = 256) -> Callable[[], int]:
    """Return UCT with rollouts from the start of a game, OpenSpiel's name for it."""
    from sb3_lecture.search.mcts import RolloutSearch
    from sb3_lecture_envs.board.connect_four import ConnectFour
    from sb3_lecture_envs.board.game import Game
    from sb3_lecture_envs.board.tic_tac_toe import TicTacToe

    game: Game = {"tic_tac_toe": TicTacToe, "connect_four": ConnectFour}[name]()
    search, states = RolloutSearch(game, SIMULATIONS, seed=0), game.initial(batch)

    def job() -> int:
        search.search(states)
        return batch * SIMULATIONS

    return job


def limit_rows() -> Iterator[Row]:
    """Yield our share of the reference script's rates, ours and its in turn."""
    script = os.environ.get("MCTS_LIMIT", "")
    for batch in (32, 256):
        for network in ("compiled", "torch"):
            what = f"Connect Four, {network} MLP, puct, batch {batch}, hand-written numba tree with torch MLP"
            job, arguments = connect_four_job(batch, "puct", network), (script, batch, SIMULATIONS)
            yield from versus(what, job, sys.executable, LIMIT, arguments, 0.8)


def rows() -> Iterator[Row]:
    """Yield (what, unit, our rates, the peer's rates, least ratio)."""
    for name, floor in (("tic_tac_toe", 5.0), ("connect_four", 15.0)):
        arguments = (name, SIMULATIONS)
        yield from versus(f"{name}, rollouts, OpenSpiel C++", rollout_job(name), "ospiel", OPEN_SPIEL, arguments, floor)
    for policy, batch, floor in (
        ("muzero", 32, 4.0),
        ("muzero", 256, 5.0),
        ("gumbel_muzero", 1, 2.0),
        ("gumbel_muzero", 32, 1.2),
        ("gumbel_muzero", 256, 2.5),
    ):
        selection = "puct" if policy == "muzero" else "gumbel"
        arguments = (policy, batch, SIMULATIONS, WIDTH)
        for network in ("compiled", "torch") if batch > 1 else ("compiled",):
            what = f"Connect Four, {network} MLP, {selection}, batch {batch}, mctx {policy}"
            yield from versus(what, connect_four_job(batch, selection, network), "jaxv", MCTX, arguments, floor)
    for network in ("compiled", "torch"):
        what = f"learned {network} MLP model, batch 256, LightZero C++ tree"
        yield from versus(what, learned_model_job(256, network), "lz", LIGHT_ZERO, (256, SIMULATIONS, WIDTH), 4.0)
    yield from limit_rows()
