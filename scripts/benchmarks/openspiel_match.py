"""A match between our AlphaZero and OpenSpiel's Python AlphaZero, each after the same time on one core.

``PEERS`` holds a venv ``ospiel`` with open_spiel, jax, flax, optax, chex and orbax-checkpoint. Both learn at the same time,
each on a core of its own (Linux), with as many simulations a move and networks of the same size. OpenSpiel learns each
position eight times and takes a learning step when an eighth of its memory is new; the memory is small, for with a larger one
it would take no step in minutes. Then they play games that begin with two moves at random, each opening once from either side,
without noise.

    PEERS=… python scripts/benchmarks/openspiel_match.py tic_tac_toe --minutes 5 --n-games 200
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

import sb3_lecture_envs
from sb3_lecture import AlphaZero
from sb3_lecture_envs.board.connect_four import ConnectFour
from sb3_lecture_envs.board.solve import TableGrader
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe

SIMULATIONS = 50
OUTCOMES = [1, 0, -1]  # won, drawn, lost
#: game → rules, our env, our policy, our values, OpenSpiel's network (kind, width, depth) and memory in positions
GAMES: dict[str, tuple[Any, str, str, dict[str, Any], tuple[str, int, int, int]]] = {
    "tic_tac_toe": (TicTacToe, "Lecture/TicTacToe-v0", "MlpPolicy", {"n_games": 16, "train_freq": 8}, ("mlp", 128, 2, 4096)),
    "connect_four": (
        ConnectFour, "Lecture/ConnectFour-v0", "BoardCnnPolicy",
        {"n_games": 128, "buffer_size": 200_000, "dirichlet_alpha": 1.0, "temperature_moves": 12}, ("resnet", 32, 2, 512),
    ),
}  # fmt: skip

PEER = """
import os, sys
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
import numpy as np, pyspiel
from open_spiel.python.algorithms.alpha_zero import alpha_zero as az, evaluator
def config(name, path, sims, kind, width, depth, memory):
    game = pyspiel.load_game(name)
    return az.Config(
        game=name, path=path, learning_rate=1e-3, weight_decay=1e-4, decouple_weight_decay=False, train_batch_size=128,
        replay_buffer_size=int(memory), replay_buffer_reuse=8, max_steps=0, checkpoint_freq=10**9, actors=1, evaluators=0,
        uct_c=1.41, max_simulations=int(sims), policy_alpha=1.0, policy_epsilon=0.25, temperature=1.0, temperature_drop=2,
        evaluation_window=50, eval_levels=2, nn_model=kind, nn_width=int(width), nn_depth=int(depth),
        observation_shape=game.observation_tensor_shape(), output_size=game.num_distinct_actions(), verbose=False, quiet=True,
        nn_api_version="linen",
    )
if __name__ == "__main__":
    what, name, path, *rest = sys.argv[1:]
    c = config(name, path, *rest)
    if what == "learn":
        az.alpha_zero(c)
    else:
        game = pyspiel.load_game(name)
        model = az._init_model_from_config(c)
        model.load_checkpoint(-1)
        bot = az._init_bot(c, game, evaluator.AlphaZeroEvaluator(game, model), True)
        print("ready", flush=True)
        for line in sys.stdin:
            state = game.new_initial_state()
            for action in line.split():
                state.apply_action(int(action))
            print("move", bot.mcts_search(state).best_child().action, flush=True)
"""


class StopAfter(BaseCallback):
    """Stop the training after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.end = time.monotonic() + seconds

    def _on_step(self) -> bool:
        return time.monotonic() < self.end


def random_opening(game: Any, rng: np.random.Generator) -> list[int]:
    """Draw the first two moves of a game."""
    state, moves = game.initial(1), list[int]()
    for _ in range(2):
        moves.append(int(rng.choice(np.flatnonzero(game.legal(state)[0]))))
        state, _, _ = game.step(state, np.array(moves[-1:]))
    return moves


def main() -> None:
    """Learn, play, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("game", choices=list(GAMES))
    parser.add_argument("--minutes", type=float, default=5.0, help="of learning, default 5")
    parser.add_argument("--n-games", type=int, default=200, help="default 200")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rules, env_id, policy, values, network = GAMES[args.game]
    python = Path(os.environ["PEERS"]) / "ospiel" / "bin" / "python"
    th.set_num_threads(1)
    sb3_lecture_envs.register_envs()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "peer.py"  # its processes import it again
        script.write_text(PEER)
        command = [str(python), str(script), "learn", args.game, f"{folder}/run", str(SIMULATIONS), *map(str, network)]
        with open(f"{folder}/log", "w") as log:
            learner = subprocess.Popen(
                ["taskset", "-c", "0", *command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            os.sched_setaffinity(0, {1})
            model = AlphaZero(policy, env_id, n_simulations=SIMULATIONS, seed=args.seed, device="cpu", **values)
            model.learn(10**9, callback=StopAfter(60.0 * args.minutes))
            os.killpg(learner.pid, signal.SIGKILL)
            learner.wait()
        log_lines = Path(folder, "log").read_text().splitlines()
        steps = [line for line in log_lines if "States seen" in line]
        if not steps:
            sys.exit(
                f"OpenSpiel took no learning step in {args.minutes} minutes; its log ends with\n" + "\n".join(log_lines[-5:])
            )
        last = steps[-1].split("]")[-1].strip()
        ours = f"{model.num_timesteps} moves, {model._n_updates} gradient steps"
        print(f"{args.game}: ours {ours}; OpenSpiel's {len(steps)} learning steps. {last}", flush=True)
        command[2] = "play"
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert peer.stdin and peer.stdout

        def answer(word: str) -> str:
            for line in peer.stdout:  # type: ignore[union-attr]
                if line.startswith(word):
                    return line
            sys.exit("OpenSpiel's process ended")

        answer("ready")
        game, rng = rules(), np.random.default_rng(args.seed)
        grader = game.grader()
        record, exact = np.zeros(3, np.int64), np.zeros(3, np.int64)  # won, drawn, lost; and what the openings are worth
        opening: list[int] = []
        for number in range(args.n_games):
            if number % 2 == 0:
                opening = random_opening(game, rng)
            state, moves, result = game.initial(1), list[int](), None
            while result is None:
                mask, ply = game.legal(state), len(moves)
                if ply == len(opening) and isinstance(grader, TableGrader):
                    value = int(grader.move_values(state).max())  # to the side to move
                    exact[OUTCOMES.index(value if ply % 2 == number % 2 else -value)] += 1
                if ply < len(opening):
                    action = opening[ply]
                elif ply % 2 == number % 2:
                    action = int(model.predict(game.observe(state), action_masks=mask)[0][0])
                else:
                    peer.stdin.write(" ".join(map(str, moves)) + "\n")
                    peer.stdin.flush()
                    action = int(answer("move").split()[1])
                state, reward, over = game.step(state, np.array([action]))
                moves.append(action)
                if over[0]:
                    result = float(reward[0]) * (1 if ply % 2 == number % 2 else -1)
            record[OUTCOMES.index(int(result))] += 1
        peer.kill()
        print(f"{args.game}: {args.n_games} games, ours: {record[0]} won, {record[1]} drawn, {record[2]} lost")
        if exact.any():
            print(f"with perfect play on both sides: {exact[0]} won, {exact[1]} drawn, {exact[2]} lost")


if __name__ == "__main__":
    main()
