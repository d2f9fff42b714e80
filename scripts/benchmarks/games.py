"""CFR against OpenSpiel's C++ on Leduc poker, warm, one thread each: the same iterations to the same exploitability.

``make benchmark`` installs the peer (``open_spiel``, extra ``bench``).
"""

from collections.abc import Iterator

from benchmarks._measure import Row, in_turn
from sb3_lecture.exact import GameTree, exploitability
from sb3_lecture.games.cfr import CFR
from sb3_lecture.games.cfr_plus import CFRPlus
from sb3_lecture_envs.cards.env import CardEnv
from sb3_lecture_envs.cards.leduc_poker import LeducPoker

ITERATIONS = 100


def rows() -> Iterator[Row]:
    """Yield one row a comparison."""
    import pyspiel

    game, tree = pyspiel.load_game("leduc_poker"), GameTree(LeducPoker())
    for cls, peer in ((CFR, pyspiel.CFRSolver), (CFRPlus, pyspiel.CFRPlusSolver)):
        ours_at, peers_at = 0.0, 0.0

        def ours(cls: type[CFR] = cls) -> int:
            nonlocal ours_at
            model = cls(env=CardEnv(tree.game)).learn(ITERATIONS, log_interval=None)
            ours_at = exploitability(tree, model)
            return ITERATIONS

        def theirs(peer: type = peer) -> int:
            nonlocal peers_at
            solver = peer(game)
            for _ in range(ITERATIONS):
                solver.evaluate_and_update_policy()
            peers_at = pyspiel.exploitability(game, solver.average_policy())
            return ITERATIONS

        rates = in_turn(ours, theirs, 3)
        if abs(ours_at - peers_at) > 1e-4 * peers_at:
            raise RuntimeError(
                f"{cls.__name__}: exploitability {ours_at}, OpenSpiel's {peers_at}, after {ITERATIONS} iterations"
            )
        what = f"{cls.__name__} against OpenSpiel's, Leduc poker, {ITERATIONS} iterations to exploitability {ours_at:.6f}"
        yield Row(what, "iterations/s", *rates, 5.0)
