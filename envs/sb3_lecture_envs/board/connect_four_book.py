"""The committed Connect Four positions: how they are drawn, solved and stored.

    python -m sb3_lecture_envs.board.connect_four_book connect_four_positions.npz --minutes 30

draws positions by random play, at every depth, solves them with the solver beside this file, and writes 1000 of them. From
eight stones on the score of every move is known, below that its value (win, draw, loss). Deeper than twelve stones three
quarters of the positions are such that some legal move errs: those tell players apart.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from .connect_four import ConnectFour
from .connect_four_board import CELLS, OTHER, OWN, WIDTH
from .connect_four_positions import load_positions, mirrored_stones
from .connect_four_solver import ConnectFourSolver
from .game import OVER, PLY
from .players import ILLEGAL, UNKNOWN, optimal_moves, uniform_choice

N_POSITIONS = 1000
N_SHALLOW = {0: 1, 1: 4, 2: 4, 3: 4, 4: 4, 5: 5, 6: 6, 7: 8, 8: 10, 9: 12, 10: 16, 11: 20}  # positions by ply


def random_positions(ply: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw up to n distinct unfinished positions (none the mirror image of another) by random play of ``ply`` moves."""
    game = ConnectFour()
    found: dict[tuple[int, int], np.ndarray] = {}
    for _ in range(200):
        states = game.initial(max(4 * n, 64))
        for _ in range(ply):
            states, _, _ = game.step(states, uniform_choice(rng, game.legal(states)))
            states = states[states[:, OVER] == 0]
        for state in states:
            own, other = int(state[OWN]), int(state[OTHER])
            if (mirrored_stones(own), mirrored_stones(other)) not in found:
                found[own, other] = state
        if len(found) >= n:
            break
    rows = list(found.values())[:n]
    return np.array(rows, np.int64).reshape(-1, 4)


def make_positions(path: Path, minutes: float, seed: int = 0, table_bits: int = 26) -> None:
    """Draw and solve the positions and write them; what the file already holds of shallow positions is kept.

    Shallow positions come first, one of every depth from the deepest up, then more of them while the time lasts; the file is
    written after each, so that an interrupted run is continued by the next. Deep ones fill the rest.

    :param path: of the file
    :param minutes: when to stop with shallow positions; the empty board alone takes about a quarter of an hour
    :param seed: of the random play
    :param table_bits: of the solver's table (26: 512 MiB)
    """
    rng, solver, stop = np.random.default_rng(seed), ConnectFourSolver(table_bits, book=False), time.time() + 60 * minutes
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    if path.exists():
        kept = load_positions(path)
        rows = [row for row in zip(*kept, strict=True) if row[0][PLY] < 12]
    solved = {(int(row[0][OWN]), int(row[0][OTHER])) for row in rows}
    drawn = {ply: random_positions(ply, n, rng) for ply, n in N_SHALLOW.items()}
    order = [
        (ply, i) for first in (True, False) for ply in range(11, -1, -1) for i in range(len(drawn[ply])) if (i == 0) == first
    ]
    for ply, i in order:
        state = drawn[ply][i]
        if (int(state[OWN]), int(state[OTHER])) in solved:
            continue
        if time.time() > stop:
            break
        began = time.time()
        scores = solver.move_scores(state[None])[0] if ply >= 8 else np.full(WIDTH, UNKNOWN, np.int16)
        values = _sign(scores) if ply >= 8 else solver.move_values(state[None])[0]
        rows.append((state, values, scores))
        solved.add((int(state[OWN]), int(state[OTHER])))
        _write(path, rows)
        print(f"ply {ply}: values {values.tolist()} in {time.time() - began:.1f} s", flush=True)
    rows += lost_successors([row for row in rows if row[0][PLY] < 5], solved)
    for ply in range(12, CELLS):
        n = (N_POSITIONS - len(rows)) // (CELLS - ply)  # what is left, spread evenly
        states = random_positions(ply, 3 * n, rng)
        scores = solver.move_scores(states)
        values = _sign(scores)
        errs = (optimal_moves(values) != (values != ILLEGAL)).any(axis=1)
        order_of = np.concatenate(
            [np.flatnonzero(errs)[: 3 * n // 4], np.flatnonzero(~errs), np.flatnonzero(errs)[3 * n // 4 :]]
        )
        rows += [(states[i], values[i], scores[i]) for i in order_of[:n]]
        print(f"ply {ply}: {n} positions, {errs.mean():.2f} of those drawn leave room to err", flush=True)
    _write(path, rows)


def lost_successors(
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]], solved: set[tuple[int, int]]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the positions that winning moves lead to: the side to move there is lost, so every move of it is, unsearched.

    :param rows: positions with the values and scores of their moves
    :param solved: (own, other) of the positions that are known already
    """
    game, found = ConnectFour(), []
    for state, values, _ in rows:
        for action in np.flatnonzero(values == 1):
            after, _, terminated = game.step(state[None], np.array([action]))
            key = (int(after[0, OWN]), int(after[0, OTHER]))
            if not terminated[0] and key not in solved:
                lost = np.where(game.legal(after)[0], -1, ILLEGAL).astype(np.int16)
                found.append((after[0], lost, np.full(WIDTH, UNKNOWN, np.int16)))
                solved.add(key)
    return found


def _write(path: Path, rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    rows = sorted(rows, key=lambda row: int(row[0][PLY]))
    states, values, scores = (np.array([row[i] for row in rows]) for i in range(3))
    np.savez_compressed(path, states=states.astype(np.int64), values=values.astype(np.int16), scores=scores.astype(np.int16))


def _sign(scores: np.ndarray) -> np.ndarray:
    return np.where(scores == ILLEGAL, ILLEGAL, np.sign(scores)).astype(np.int16)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Draw and solve the committed Connect Four positions.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_positions(arguments.path, arguments.minutes, arguments.seed)


if __name__ == "__main__":
    main()
