"""CFR+ (Tammelin 2014, "Solving large imperfect information games using CFR+"; Bowling et al. 2015 solved hold'em by it).

Two changes to CFR: summed regrets never fall below 0 (regret matching+), so that an action that turns good is played at once,
and iteration t has weight t in the average. Players take turns, as in the paper.
"""

from typing import Any

from sb3_lecture.games.cfr import CFR


class CFRPlus(CFR):
    """CFR with regret matching+ and linear averaging.

    :param policy: "StrategyPolicy" ("MlpPolicy" is another name of it)
    :param env: an env of a game with hidden information, its id, or a VecEnv
    :param alternating: players take turns within an iteration (default True)
    :param averaging: weight of iteration t in the average strategy: "uniform", "linear" (default) or "quadratic"
    :param kwargs: the other arguments are those of :class:`TreeAlgorithm`
    :raises ValueError: if an argument is out of its range, the env states no such rules, or the game is too large
    """

    _plus = True

    def __init__(
        self, policy: Any = "StrategyPolicy", env: Any = None, alternating: bool = True, averaging: str = "linear",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(policy, env, alternating, averaging, **kwargs)
