"""Tables: Q-learning against the tutorial's loop, a bare compiled loop and a list loop; a grid of a million states."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import numba
import numpy as np
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env

import sb3_lecture_envs  # noqa: F401
from benchmarks._measure import Row, in_turn
from sb3_lecture import PolicyIteration, QLearning
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture_envs.mdp import TabularMDP

OURS, PEER = "Lecture/CliffWalking-v0", "CliffWalking-v1"
ALPHA, GAMMA, EPSILON = 0.5, 0.99, 0.1
STEPS = 5_000_000
SETTINGS = {
    "learning_rate": ALPHA, "gamma": GAMMA, "exploration_initial_eps": EPSILON, "exploration_final_eps": EPSILON, "seed": 0,
}  # fmt: skip


def rows() -> Iterator[Row]:
    """Yield one row a comparison."""
    start = time.perf_counter()
    model = QLearning("TabularPolicy", OURS, **SETTINGS).learn(1000)  # type: ignore[arg-type]
    print(f"first learn() of this process: {time.perf_counter() - start:.2f} s (compiles, or reads numba's disk cache)")

    yield Row("QLearning.learn, cliff, against the tutorial's loop", "steps/s", *in_turn(learn(model, STEPS), tutorial), 500)
    yield Row("the same, against a bare numba loop, np.random", "steps/s", *in_turn(learn(model, STEPS), bare), 0.7)
    yield Row("the same, against a bare numba loop, xorshift", "steps/s", *in_turn(learn(model, STEPS), bare_xorshift), 0.7)

    native = QLearning("TabularPolicy", make_native_vec_env(OURS, 1), **SETTINGS)  # type: ignore[arg-type]
    evaluate = EvalCallback(make_native_vec_env(OURS, 5), eval_freq=100_000, verbose=0)
    yield Row("with EvalCallback every 1e5 steps", "steps/s", *in_turn(learn(native, STEPS, evaluate), bare), 0.5)

    eight = QLearning("TabularPolicy", make_vec_env(PEER, 8), backend="env", **SETTINGS)  # type: ignore[arg-type]
    yield Row("env backend, 8 CliffWalking-v1, against a list loop", "steps/s", *in_turn(learn(eight, 40_000), lists), 0.5)

    yield from planning()


def learn(model: QLearning, steps: int, callback: EvalCallback | None = None) -> Callable[[], int]:
    """A whole ``learn`` call."""

    def work() -> int:
        model.learn(steps, callback=callback)
        return steps

    return work


def tutorial(steps: int = 50_000) -> int:
    """The loop of every tutorial: Gymnasium's env, a numpy table."""
    env, rng = gym.make(PEER), np.random.default_rng(0)
    q = np.zeros((48, 4))
    s, _ = env.reset(seed=0)
    for _ in range(steps):
        a = env.action_space.sample() if rng.random() < EPSILON else int(np.argmax(q[s]))
        s2, r, terminated, truncated, _ = env.step(a)
        q[s, a] += ALPHA * (r + GAMMA * (not terminated) * np.max(q[s2]) - q[s, a])
        s = env.reset()[0] if terminated or truncated else s2
    return steps


def lists(steps: int = 50_000) -> int:
    """The same with Python lists, which are faster than numpy one number at a time."""
    env, random = gym.make(PEER), np.random.default_rng(0).random
    q = [[0.0] * 4 for _ in range(48)]
    s = int(env.reset(seed=0)[0])
    for _ in range(steps):
        row = q[s]
        a = int(random() * 4) if random() < EPSILON else row.index(max(row))
        s2, r, terminated, truncated, _ = env.step(a)
        row[a] += ALPHA * (float(r) + (0.0 if terminated else GAMMA * max(q[s2])) - row[a])
        s = int(env.reset()[0]) if terminated or truncated else int(s2)
    return steps


@numba.njit
def _bare(next_state: np.ndarray, reward: np.ndarray, end: np.ndarray, start: int, steps: int, q: np.ndarray) -> None:
    """Nothing but the world's table, numpy's random numbers inside numba, and the update."""
    s, n_actions = start, q.shape[1]
    for _ in range(steps):
        a = 0
        if np.random.random() < EPSILON:
            a = np.random.randint(n_actions)
        else:
            for b in range(1, n_actions):
                if q[s, b] > q[s, a]:
                    a = b
        s2, best = next_state[s, a], 0.0
        if not end[s, a]:
            best = q[s2, 0]
            for b in range(1, n_actions):
                best = max(best, q[s2, b])
        q[s, a] += ALPHA * (reward[s, a] + GAMMA * best - q[s, a])
        s = start if end[s, a] else s2


@numba.njit
def _bare_xorshift(next_state: np.ndarray, reward: np.ndarray, end: np.ndarray, start: int, steps: int, q: np.ndarray) -> None:
    """The same with Marsaglia's xorshift (2003), the cheapest generator that still looks random: 64 bits a step."""
    s, n_actions = start, q.shape[1]
    bits, coin = np.uint64(88172645463325252), np.uint64(EPSILON * 2**32)
    for _ in range(steps):
        bits ^= bits << np.uint64(13)
        bits ^= bits >> np.uint64(7)
        bits ^= bits << np.uint64(17)
        a = 0
        if bits >> np.uint64(32) < coin:
            a = np.int64((bits & np.uint64(0xFFFFFFFF)) % np.uint64(n_actions))
        else:
            for b in range(1, n_actions):
                if q[s, b] > q[s, a]:
                    a = b
        s2, best = next_state[s, a], 0.0
        if not end[s, a]:
            best = q[s2, 0]
            for b in range(1, n_actions):
                best = max(best, q[s2, b])
        q[s, a] += ALPHA * (reward[s, a] + GAMMA * best - q[s, a])
        s = start if end[s, a] else s2


def bare(loop: Callable[..., None] = _bare) -> int:
    """A bare compiled loop of the same update."""
    mdp = TabularMDP.from_gymnasium(gym.make(PEER))
    shape = (mdp.n_states, mdp.n_actions)
    law = (mdp.next_state.astype(np.int64).reshape(shape), mdp.reward.reshape(shape), mdp.terminated.reshape(shape))
    loop(*law, int(mdp.start_state[0]), STEPS, np.zeros(shape))
    return STEPS


def bare_xorshift() -> int:
    """The bare loop with the cheapest random numbers."""
    return bare(_bare_xorshift)


def planning(size: int = 1000, tol: float = 1e-6) -> Iterator[Row]:
    """Policy iteration on a grid of a million states against QuantEcon's modified policy iteration."""
    from quantecon.markov import DiscreteDP  # the extra "bench"
    from scipy.sparse import csr_matrix

    from sb3_lecture_envs.tabular_env import TabularEnv

    mdp = slippery_grid(size)
    model = PolicyIteration("TabularPolicy", TabularEnv(mdp), gamma=GAMMA, tol=tol)
    transition = csr_matrix((mdp.prob, mdp.next_state, mdp.row_ptr), shape=(mdp.n_states * 4, mdp.n_states))
    pairs = np.arange(mdp.n_states * 4)
    peer = DiscreteDP(mdp.expected_reward.ravel(), transition, GAMMA, pairs // 4, pairs % 4)

    def ours() -> int:
        model.learn(10**12)
        return 1

    def theirs() -> int:
        peer.solve(method="modified_policy_iteration", epsilon=tol, max_iter=100_000)
        return 1

    print(f"PolicyIteration on {size} x {size} cells in a process of its own: peak memory {memory(size, tol):.2f} GB")
    what = f"PolicyIteration, {size}x{size} slippery grid, against QuantEcon's modified policy iteration"
    yield Row(what, "solutions/s", *in_turn(ours, theirs, repeats=5), 2)


def memory(size: int, tol: float) -> float:
    """Peak resident memory of a new process that builds the grid and solves it, in GB (10^9 bytes)."""
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1])\n"
        "from benchmarks.tabular import GAMMA, slippery_grid\n"
        "from sb3_lecture import PolicyIteration\n"
        "from sb3_lecture_envs.tabular_env import TabularEnv\n"
        "env = TabularEnv(slippery_grid(int(sys.argv[2])))\n"
        "PolicyIteration('TabularPolicy', env, gamma=GAMMA, tol=float(sys.argv[3])).learn(10**12)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # kB on Linux
    )
    scripts = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code, scripts, str(size), str(tol)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) * 1024 / 1e9


def slippery_grid(n: int, slip: float = 0.2) -> TabularMDP:
    """An n x n grid with a fifth of its cells walled, reward -1 a step, and the goal, worth 0 for ever, in the corner."""
    rng = np.random.default_rng(0)
    wall = rng.random((n, n)) < 0.2
    wall[0, 0] = wall[-1, -1] = False
    row, column = np.divmod(np.arange(n * n), n)
    to = np.empty((n * n, 4), np.int32)
    for a, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
        r2, c2 = np.clip(row + down, 0, n - 1), np.clip(column + right, 0, n - 1)
        to[:, a] = np.where(wall[r2, c2], row * n + column, r2 * n + c2)
    order = [[a, (a + 1) % 4, (a - 1) % 4] for a in range(4)]
    next_state = to[:, order]  # [S, 4, 3]
    next_state[-1] = n * n - 1
    reward = np.full(next_state.shape, -1.0)
    reward[-1] = 0.0
    end = np.zeros(next_state.shape, np.bool_)
    end[-1] = True
    prob = np.broadcast_to([1 - slip, slip / 2, slip / 2], next_state.shape)
    ptr = np.arange(0, next_state.size + 1, 3, dtype=np.int32)
    return TabularMDP(n * n, 4, ptr, next_state.ravel(), prob.ravel(), reward.ravel(), end.ravel(), [0], [1.0])
