"""A league: self-play against a growing population, AlphaStar's in small (Vinyals et al. 2019, methods, "Multi-agent
learning").

Plain self-play forgets: what beats the newest self may lose to an old one, and in rock, paper, scissors it circles for ever. A
league keeps snapshots, and its learners meet them by how hard they are (prioritised fictitious self-play, PFSP):

main agent       learns on and on against all members, weights f(p) = (1 − p)²; a snapshot joins after every generation
exploiter        starts anew in every generation and meets the newest main agent alone, to find its weaknesses; joins too

Any SB3 algorithm may learn: a member is its ordinary file. The payoff matrix is exact where the game can be written out, else
played. Deviations: roles take turns instead of running at once, an exploiter always trains its whole time, and there are no
league exploiters; an opponent is drawn anew in every game.
"""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture.common import checkpoint
from sb3_lecture.common.checks import Choice, Integer, Real
from sb3_lecture.common.files import write_bytes, written
from sb3_lecture.common.opponents import ModelOpponent
from sb3_lecture.exact.exploitability import exploitability, match_value, strategy_table
from sb3_lecture.exact.exploitability_callback import rules_of
from sb3_lecture.exact.exploitability_tree import GameTree
from sb3_lecture.games.population import (
    WEIGHTINGS,
    alpha_rank,
    elo_ratings,
    meeting_weights,
    mix_strategies,
    nash_mixture,
)

#: games of both seats in which two members meet whose payoff is not known exactly
N_MATCHES = 200


class LeagueEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One player's env, whose opponent is drawn before every game.

    :param env: a card or board env with an ``opponent``
    :param opponents: players
    :param weights: how often each is met, float [n]
    """

    def __init__(self, env: gym.Env[Any, Any], opponents: list[Any], weights: np.ndarray) -> None:
        super().__init__(env)
        self.opponents, self.weights = opponents, np.asarray(weights, np.float64)
        self.rng = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw an opponent and start a game."""
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        inner: Any = self.env.unwrapped
        inner.opponent = self.opponents[int(self.rng.choice(len(self.opponents), p=self.weights))]
        return self.env.reset(seed=seed, options=options)

    def action_masks(self) -> np.ndarray:
        """The legal moves, for MaskablePPO."""
        inner: Any = self.env.unwrapped
        return inner.action_masks()


class League:
    """A population of SB3 models that learn against one another.

    ``members`` is a list of {"file", "role", "generation"}; ``payoffs`` M [n, n]: what the row wins against the column on the
    average of both seats.

    :param folder: where members and ``league.json`` are kept; one that holds a league is gone on with
    :param algorithm: an SB3 class, ours or another
    :param env_id: of a card or board game
    :param env_kwargs: arguments of the env
    :param policy: name of the policy (default "MlpPolicy")
    :param model_kwargs: arguments of the algorithm
    :param weighting: "hard" (PFSP, default), "even", "uniform" (fictitious self-play) or "latest" (plain self-play)
    :param power: of "hard" (default 2)
    :param exploiters: exploiters in a generation (default 0)
    :param n_envs: envs of each learner (default 8)
    :param seed: one seed, one result (default 0)
    :raises ValueError: if an argument is out of its range, the env is no game, or the folder holds another league
    """

    def __init__(
        self,
        folder: str | Path,
        algorithm: type[BaseAlgorithm],
        env_id: str,
        env_kwargs: dict[str, Any] | None = None,
        policy: str = "MlpPolicy",
        model_kwargs: dict[str, Any] | None = None,
        weighting: str = "hard",
        power: float = 2.0,
        exploiters: int = 0,
        n_envs: int = 8,
        seed: int = 0,
    ) -> None:
        Choice(*WEIGHTINGS).check("weighting", weighting)
        Real(above=0).check("power", power)
        Integer(0).check("exploiters", exploiters)
        Integer(1).check("n_envs", n_envs)
        Integer(0, 2**31).check("seed", seed)
        self.folder, self.algorithm, self.policy = Path(folder), algorithm, policy
        self.env_id, self.env_kwargs = env_id, env_kwargs or {}
        self.model_kwargs = model_kwargs or {}
        self.weighting, self.power, self.exploiters = weighting, power, exploiters
        self.n_envs, self.seed = n_envs, seed
        env = self._make_env()
        if not hasattr(env.unwrapped, "opponent"):
            raise ValueError(f"{env_id} has no opponent: a league plays card and board games, such as Lecture/KuhnPoker-v0")
        self.tree = self._written_out(env)
        self.max_payoff = self.tree.game.max_payoff if self.tree else 1.0
        self.members: list[dict[str, Any]] = []
        self.payoffs = np.zeros((0, 0))
        self._tables: list[np.ndarray] = []
        self._players: list[ModelOpponent] = []
        if (self.folder / "league.json").is_file():
            self._read()

    def _make_env(self, **kwargs: Any) -> gym.Env[Any, Any]:
        return gym.make(self.env_id, disable_env_checker=True, **self.env_kwargs, **kwargs)

    @staticmethod
    def _written_out(env: gym.Env[Any, Any]) -> GameTree | None:
        rules = rules_of(env)
        try:
            return None if rules is None else GameTree(rules)
        except ValueError:  # too large: members meet in matches
            return None

    # ---- files

    def _settings(self) -> dict[str, Any]:
        names = ("env_id", "policy", "weighting", "power", "exploiters", "n_envs", "seed")
        return {name: getattr(self, name) for name in names} | {"algorithm": self.algorithm.__name__}

    def _read(self) -> None:
        try:
            kept = json.loads((self.folder / "league.json").read_text())
            settings, members, payoffs = kept["settings"], kept["members"], np.array(kept["payoffs"], np.float64)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.folder / 'league.json'} is damaged: {error}") from error
        if settings != (mine := self._settings()):
            other = next(name for name in mine if settings.get(name) != mine[name])
            raise ValueError(
                f"{self.folder} holds a league with {other}={settings.get(other)!r}, not {mine[other]!r}; take another folder"
            )
        for member in members:
            self._join(member)
        self.payoffs = payoffs.reshape(len(members), len(members))

    def _write(self) -> None:
        kept = {"settings": self._settings(), "members": self.members, "payoffs": self.payoffs.tolist()}
        write_bytes(self.folder / "league.json", json.dumps(kept, indent=1).encode())

    def model(self, member: int) -> BaseAlgorithm:
        """Load a member."""
        return checkpoint.load(self.folder / self.members[member]["file"], cls=self.algorithm, device="cpu")

    def _join(self, member: dict[str, Any]) -> None:
        self.members.append(member)
        self._players.append(ModelOpponent(self.algorithm, str(self.folder / member["file"]), seed=self.seed))
        if self.tree is not None:
            self._tables.append(strategy_table(self.tree, self.model(len(self.members) - 1), illegal="strike"))

    # ---- learning

    @property
    def generation(self) -> int:
        """Generations done; generation 0 is the first agent, before it has learned."""
        return max((member["generation"] for member in self.members), default=-1) + 1

    def run(self, generations: int, steps: int) -> "League":
        """Go on for some generations, the first of which is the agent before it has learned.

        :param generations: how many
        :param steps: env steps of each learner in each
        :return: the league itself
        :raises ValueError: if there is less than one of either
        """
        Integer(1).check("generations", generations)
        Integer(1).check("steps", steps)
        for _ in range(generations):
            number = self.generation
            if number == 0:
                self._add(self._new_model([], np.ones(0), number, 0), "main", number)
            else:
                newest = max(i for i, member in enumerate(self.members) if member["role"] == "main")
                self._add(self._learn(newest, number, steps), "main", number)
                newest = len(self.members) - 1
                for k in range(self.exploiters):
                    model = self._new_model([self._players[newest]], np.ones(1), number, 1 + k)
                    self._add(model.learn(steps), f"exploiter of {newest}", number)
            self._write()
        return self

    def _envs(self, opponents: list[Any], weights: np.ndarray) -> DummyVecEnv:
        def make() -> gym.Env[Any, Any]:
            return Monitor(LeagueEnv(self._make_env(opponent="random"), opponents, weights) if opponents else self._make_env())

        return DummyVecEnv([make] * self.n_envs)

    def _new_model(self, opponents: list[Any], weights: np.ndarray, generation: int, k: int) -> BaseAlgorithm:
        seed = self.seed * 1_000_003 + generation * 101 + k
        cls: Any = self.algorithm
        return cls(self.policy, self._envs(opponents, weights), seed=seed % 2**31, **self.model_kwargs)

    def _learn(self, newest: int, generation: int, steps: int) -> BaseAlgorithm:
        """Let the main agent learn on, from its own file."""
        weights = self.weights(newest)
        model = self.model(newest)
        model.set_env(self._envs(self._players, weights))
        for i, player in enumerate(self._players):
            player.seed(self.seed + 7 * generation + i)
        model.set_random_seed((self.seed * 1_000_003 + generation * 101) % 2**31)
        return model.learn(steps)

    def weights(self, member: int) -> np.ndarray:
        """How often a member meets each of all members, float64 [n]."""
        rates = (1.0 + self.payoffs[member] / self.max_payoff) / 2.0
        return meeting_weights(np.clip(rates, 0.0, 1.0), self.weighting, self.power)

    def _add(self, model: BaseAlgorithm, role: str, generation: int) -> None:
        file = f"{len(self.members):04d}_{role.split(' ')[0]}.zip"
        with written(self.folder / file) as beside:
            model.save(beside)
        self._join({"file": file, "role": role, "generation": generation})
        n = len(self.members)
        grown = np.zeros((n, n))
        grown[:-1, :-1] = self.payoffs
        for j in range(n - 1):
            grown[n - 1, j] = self._meet(n - 1, j)
            grown[j, n - 1] = -grown[n - 1, j]
        self.payoffs = grown

    def _meet(self, i: int, j: int) -> float:
        """What member i wins against member j on the average of both seats."""
        if self.tree is not None:
            first, second = self._tables[i], self._tables[j]
            return (match_value(self.tree, first, second) - match_value(self.tree, second, first)) / 2.0
        total = 0.0
        for k in (i, j):
            self._players[k].seed(self.seed + k)
        for side in ("first", "second"):
            env = self._make_env(opponent=self._players[j], side=side)
            observation, _ = env.reset(seed=self.seed)
            for _ in range(N_MATCHES // 2):
                ended, reward = False, 0.0
                while not ended:
                    mask = env.unwrapped.action_masks()  # type: ignore[attr-defined]
                    observation, paid, terminated, truncated, _ = env.step(self._players[i](observation, mask))
                    ended, reward = terminated or truncated, float(paid)
                total += reward
                observation, _ = env.reset()
        return total / (2 * (N_MATCHES // 2))

    # ---- what came of it

    def mixture(self, weights: np.ndarray | str = "nash") -> np.ndarray:
        """Weights of a mixture of members: "nash" (no member beats it), "uniform", or given ones; float64 [n]."""
        if isinstance(weights, str):
            Choice("nash", "uniform").check("weights", weights)
            n = len(self.members)
            return nash_mixture(self.payoffs) if weights == "nash" else np.full(n, 1.0 / n)
        return np.asarray(weights, np.float64)

    def exploitability(self, weights: np.ndarray | str = "nash") -> float:
        """What a perfect opponent wins against a mixture of members, NashConv / 2.

        :param weights: as ``mixture`` takes them
        :raises ValueError: if the game is too large to be graded exactly
        """
        return exploitability(self._graded(), mix_strategies(self._graded(), self._tables, self.mixture(weights)))

    def exploitabilities(self) -> np.ndarray:
        """The same of each member alone, float64 [n]."""
        return np.array([exploitability(self._graded(), table) for table in self._tables])

    def _graded(self) -> GameTree:
        if self.tree is None:
            raise ValueError(f"{self.env_id} cannot be written out, so nothing is known exactly; see payoffs and elo()")
        return self.tree

    def elo(self) -> np.ndarray:
        """Ratings of the members, float64 [n], mean 0."""
        return elo_ratings((1.0 + self.payoffs / self.max_payoff) / 2.0)

    def alpha_rank(self, alpha: float = 10.0) -> np.ndarray:
        """How much of the time evolution spends at each member, float64 [n]."""
        return alpha_rank(self.payoffs / self.max_payoff, alpha)

    def draw(self, path: str | Path) -> Path:
        """Draw the payoff matrix, and beside it exploitability (where it is known) or Elo.

        :param path: of the picture
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.0, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        largest = float(np.abs(self.payoffs).max()) or 1.0
        image = left.imshow(self.payoffs, cmap="RdBu", vmin=-largest, vmax=largest)
        figure.colorbar(image, ax=left)
        left.set(title="What the row wins against the column", xlabel="Member", ylabel="Member")
        if self.tree is None:
            right.plot(self.elo(), "o-")
            right.set(title="Elo", xlabel="Member")
        else:
            n = len(self.members)
            alone = self.exploitabilities()
            grown = [
                exploitability(
                    self.tree, mix_strategies(self.tree, self._tables[:k], nash_mixture(self.payoffs[:k, :k], 2000))
                )
                for k in range(1, n + 1)
            ]
            right.plot(alone, "o", label="each member")
            right.plot(grown, "-", label="Nash mixture of the members so far")
            right.set(title="Exploitability (NashConv / 2)", xlabel="Member")
            right.set_ylim(bottom=0)
            right.legend(frameon=False)
        figure.suptitle(f"{self.algorithm.__name__} on {self.env_id}, {self.weighting}")
        figure.savefig(path, dpi=100)
        return Path(path)
