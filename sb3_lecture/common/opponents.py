"""Opponents for the board envs: a saved model, a search, or both a search and a perfect player, as picklable callables.

    gym.make("Lecture/ConnectFour-v0", opponent=ModelOpponent(DQN, "logs/…/best_model.zip"))

An opponent is called with (observation, mask) and answers with an action. Board envs call ``seed(int)`` at ``reset(seed=…)``
and, where they run many games, ``batch(observations, masks)``. An opponent pickles as its recipe (class and path), not as the
model it has loaded, so that SubprocVecEnv can send it to its processes.
"""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import CategoricalDistribution

from sb3_lecture_envs.board.game import Game


class Search(Protocol):
    """A search over a game's states; a picklable object, such as those of ``sb3_lecture.search.mcts``."""

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Return how good each move looks, visit counts say: states int [n, state_size] -> float [n, A], 0 if illegal."""
        ...


class Player(Protocol):
    """Plays many games at once, by its own draws."""

    def seed(self, seed: int) -> None:
        """Start the draws anew."""
        ...

    def batch(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Choose a legal move in every row: observations [n, planes, H, W], masks bool [n, A] -> int [n]."""
        ...


def legal_actions(
    model: BaseAlgorithm, observations: np.ndarray, masks: np.ndarray, deterministic: bool, rng: np.random.Generator
) -> np.ndarray:
    """Ask any SB3 model with discrete actions for legal ones, whether or not it knows of masks.

    Models whose ``predict`` takes ``action_masks`` (sb3-contrib's MaskablePPO) are given them. Of the others, a policy's
    probabilities, or a Q-network's values, are read and the illegal moves struck out; from a model that shows neither, an
    illegal answer is replaced by a random legal one.

    :param model: the model
    :param observations: [n, …]
    :param masks: legal moves, bool [n, A]
    :param deterministic: the best legal action, rather than a draw (from Q-values the best is always taken)
    :param rng: draws
    :return: int [n]
    """
    if "action_masks" in inspect.signature(model.predict).parameters:
        return model.predict(observations, deterministic=deterministic, action_masks=masks)[0]  # type: ignore[call-arg]
    policy: Any = model.policy
    with th.no_grad():
        tensor = policy.obs_to_tensor(observations)[0]
        if hasattr(policy, "get_distribution"):
            distribution = policy.get_distribution(tensor)
            if isinstance(distribution, CategoricalDistribution):
                logits = distribution.distribution.logits.cpu().numpy().astype(np.float64)  # [n, A]
                noise = np.zeros_like(logits) if deterministic else rng.gumbel(size=logits.shape)
                return np.where(masks, logits + noise, -np.inf).argmax(axis=1)  # the Gumbel-max trick draws from softmax
        if hasattr(policy, "q_net"):
            values = policy.q_net(tensor).cpu().numpy()  # [n, A]
            return np.where(masks, values, -np.inf).argmax(axis=1)
    actions = np.asarray(model.predict(observations, deterministic=deterministic)[0])
    spare = np.where(masks, rng.random(masks.shape), -1.0).argmax(axis=1)
    return np.where(masks[np.arange(len(masks)), actions], actions, spare)


class ModelOpponent:
    """A saved SB3 model that plays.

    :param algorithm: its class, such as ``stable_baselines3.PPO``
    :param path: of the zip file; loaded when first asked for a move
    :param deterministic: whether it takes its best move (default False: it draws, so that games differ)
    :param device: where it computes (default "cpu")
    :param seed: of its draws; None: unpredictable
    """

    def __init__(
        self,
        algorithm: type[BaseAlgorithm],
        path: str,
        deterministic: bool = False,
        device: str = "cpu",
        seed: int | None = None,
    ) -> None:
        self.algorithm, self.path, self.deterministic, self.device = algorithm, str(path), deterministic, device
        self.rng = np.random.default_rng(seed)
        self._model: BaseAlgorithm | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    def seed(self, seed: int) -> None:
        """Start the draws anew."""
        self.rng = np.random.default_rng(seed)
        if self._model is not None:
            self._model.set_random_seed(seed)

    def __call__(self, observation: np.ndarray, mask: np.ndarray) -> int:
        """Choose a legal move: observation [planes, H, W], mask bool [A]."""
        return int(self.batch(observation[None], mask[None])[0])

    def batch(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Choose a legal move in every row: observations [n, planes, H, W], masks bool [n, A] -> int [n].

        :raises ValueError: where the model plays another game
        """
        return legal_actions(
            self._fit(observations.shape[1:], masks.shape[1]), observations, masks, self.deterministic, self.rng
        )

    def check(self, game: Game) -> None:
        """Load the model, and see that it plays this game.

        :raises ValueError: where it plays another one
        """
        self._fit(game.observation_shape, game.n_actions)

    def _fit(self, shape: tuple[int, ...], n_actions: int) -> BaseAlgorithm:
        if self._model is None:
            self._model = self.algorithm.load(self.path, device=self.device)
        seen, known = self._model.observation_space.shape, getattr(self._model.action_space, "n", None)
        if seen != tuple(shape) or known != n_actions:
            raise ValueError(
                f"{self.path} plays another game: it sees {seen} and has {known} actions, here are {shape} and {n_actions}."
            )
        return self._model


class SearchOpponent:
    """A search that plays: the move it thinks best, or a draw in proportion to its counts.

    :param game: the rules; the state is read off the observation
    :param search: states int [n, state_size] -> visit counts [n, A]
    :param temperature: 0 takes the largest count, ties at random (default); τ > 0 draws in proportion to counts^(1/τ)
    :param seed: of its draws; None: unpredictable
    :raises ValueError: for a negative temperature
    """

    def __init__(
        self,
        game: Game,
        search: Search | Callable[[np.ndarray], np.ndarray],
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> None:
        if temperature < 0:
            raise ValueError(f"temperature={temperature} is negative. Give 0 for the best move, or more for draws.")
        self.game, self.search, self.temperature = game, search, temperature
        self.rng = np.random.default_rng(seed)

    def seed(self, seed: int) -> None:
        """Start the draws anew, and the search's too where it has any."""
        self.rng = np.random.default_rng(seed)
        search_seed = getattr(self.search, "seed", None)
        if callable(search_seed):
            search_seed(seed)

    def __call__(self, observation: np.ndarray, mask: np.ndarray) -> int:
        """Choose a legal move: observation [planes, H, W], mask bool [A]."""
        return int(self.batch(observation[None], mask[None])[0])

    def batch(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Choose a legal move in every row: observations [n, planes, H, W], masks bool [n, A] -> int [n].

        What only the env forbids (Go's superko) is struck out of the search's answer.
        """
        counts = np.asarray(self.search(self.game.state_of(observations)), np.float64)  # [n, A]
        with np.errstate(divide="ignore"):
            scores = np.log(counts)
        if self.temperature > 0:
            scores = scores / self.temperature + self.rng.gumbel(size=scores.shape)
            fallback = self.rng.gumbel(size=scores.shape) - 1e9  # where the search counted no legal move
        else:
            scores = scores + 1e-9 * self.rng.random(scores.shape)  # ties
            fallback = self.rng.random(scores.shape) - 1e9
        return np.where(masks, np.maximum(scores, fallback), -np.inf).argmax(axis=1)


class OpeningOpponent:
    """Two players in one: a search for the opening, and a perfect player from where its exact values come soon.

    An exact solver may need minutes while the board is nearly empty. ``proven`` says who has moved last.

    :param game: the rules; the state is read off the observation
    :param opening: plays where ``soon`` is False
    :param perfect: plays where ``soon`` is True
    :param soon: states int [n, state_size] -> bool [n], such as ``ConnectFourSolver.knows_soon``
    """

    def __init__(self, game: Game, opening: Player, perfect: Player, soon: Callable[[np.ndarray], np.ndarray]) -> None:
        self.game, self.opening, self.perfect, self.soon = game, opening, perfect, soon
        self.proven = True

    def seed(self, seed: int) -> None:
        """Start the draws of both anew."""
        self.opening.seed(seed)
        self.perfect.seed(seed)

    def __call__(self, observation: np.ndarray, mask: np.ndarray) -> int:
        """Choose a legal move: observation [planes, H, W], mask bool [A]."""
        return int(self.batch(observation[None], mask[None])[0])

    def batch(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Choose a legal move in every row: observations [n, planes, H, W], masks bool [n, A] -> int [n]."""
        soon = self.soon(self.game.state_of(observations))
        actions = np.zeros(len(masks), np.int64)
        for player, rows in ((self.perfect, soon), (self.opening, ~soon)):
            if rows.any():
                actions[rows] = player.batch(observations[rows], masks[rows])
        self.proven = bool(soon.all())
        return actions
