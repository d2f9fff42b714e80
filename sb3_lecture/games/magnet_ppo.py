"""PPO with a cost of leaving a magnet: the simple twin of R-NaD.

Plain self-play by policy gradients circles around an equilibrium. A Kullback-Leibler divergence to a *magnet* policy makes it
settle (Sokota et al. 2023, "A unified approach to reinforcement learning, quantal response equilibria, and two-player zero-sum
games": magnetic mirror descent), and moving the magnet to where it has settled, over and over, leads to an equilibrium of the
game itself, as with R-NaD's regularisation policies. The whole difference to PPO's clipped loss (Schulman et al. 2017, eq. 7):

    L = −min(r A, clip(r, 1 − ε, 1 + ε) A) + η KL(π ‖ π_magnet),    r = π(a) / π_old(a),  A = G − V

Rewards stay as they are: the cost is paid in the state at hand, not by the returns of those before it.
"""

import copy
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch.nn import functional as F

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.games.self_play import Games, SelfPlayAlgorithm, decision_returns


def magnet_loss(
    logs: th.Tensor,
    old: th.Tensor,
    magnet: th.Tensor,
    actions: th.Tensor,
    advantages: th.Tensor,
    clip_range: float,
    eta: float,
) -> th.Tensor:
    """The policy's loss of each row.

    :param logs: log π, [N, A]
    :param old: log π_old of the actions taken, [N]
    :param magnet: log π_magnet, [N, A]
    :param actions: taken, int64 [N]
    :param advantages: [N]
    :param clip_range: ε
    :param eta: η
    :return: [N]
    """
    ratio = (logs.gather(1, actions[:, None]).squeeze(1) - old).exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    divergence = (logs.exp() * (logs - magnet)).sum(dim=1)  # KL(π ‖ π_magnet); illegal actions have π = 0
    return -th.minimum(ratio * advantages, clipped * advantages) + eta * divergence


class MagnetPPO(SelfPlayAlgorithm):
    """PPO with a magnet, in self-play.

    :param policy: "MlpPolicy"
    :param env: an env of a game with hidden information, its id, or a VecEnv; its opponent does not matter
    :param learning_rate: Adam's: a number or a schedule (default 1e-3)
    :param n_games: games of an iteration (default 512)
    :param n_epochs: passes over an iteration's decisions (default 1)
    :param batch_size: decisions of a gradient step (default 1024)
    :param eta: η, weight of the divergence, where payoffs are in units of the game's largest (default 0.3)
    :param magnet_interval: iterations between two magnets (default 100)
    :param clip_range: PPO's ε (default 0.2)
    :param lambda_: of the λ-returns (default 1: the payoffs alone)
    :param vf_coef: weight of the value loss (default 1)
    :param max_grad_norm: largest norm of the gradient (default 0.5)
    :param kwargs: the other arguments are those of :class:`SelfPlayAlgorithm`
    :raises ValueError: if an argument is out of its range, or the env states no such rules
    """

    def __init__(
        self,
        policy: Any = "MlpPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 1e-3,
        n_games: int = 512,
        n_epochs: int = 1,
        batch_size: int = 1024,
        eta: float = 0.3,
        magnet_interval: int = 100,
        clip_range: float = 0.2,
        lambda_: float = 1.0,
        vf_coef: float = 1.0,
        max_grad_norm: float = 0.5,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), eta=Real(0), magnet_interval=Integer(1), clip_range=Real(above=0))
        self.n_epochs, self.batch_size = n_epochs, batch_size
        self.eta, self.magnet_interval, self.clip_range = eta, magnet_interval, clip_range
        super().__init__(policy, env, learning_rate, n_games, lambda_, vf_coef, max_grad_norm, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.magnet = copy.deepcopy(self.policy)

    def _train(self, games: Games) -> None:
        valid = games.valid  # [T, n]
        obs = th.as_tensor(games.observations[valid], device=self.device)  # [N, O]
        masks = th.as_tensor(games.masks[valid], device=self.device)  # [N, A]
        actions = th.as_tensor(games.actions[valid], device=self.device)  # [N]
        with th.no_grad():
            _, logs = self.log_probabilities(self.policy, obs, masks)
            old = logs.gather(1, actions[:, None]).squeeze(1)
            _, magnet = self.log_probabilities(self.magnet, obs, masks)
            values = np.zeros(valid.shape)
            values[valid] = self.policy.predict_values(obs).squeeze(1).cpu().numpy()
        scaled = games._replace(payoffs=games.payoffs / self._scale)
        found = decision_returns(scaled, np.zeros(valid.shape), values, self.lambda_)[valid]
        returns = th.as_tensor(found, dtype=th.float32, device=self.device)  # [N]
        advantages = returns - th.as_tensor(values[valid], dtype=th.float32, device=self.device)
        for _ in range(int(self.n_epochs)):
            order = np.random.permutation(len(actions))
            for start in range(0, len(order), int(self.batch_size)):
                rows = th.as_tensor(order[start : start + int(self.batch_size)], device=self.device)
                _, logs = self.log_probabilities(self.policy, obs[rows], masks[rows])
                losses = magnet_loss(logs, old[rows], magnet[rows], actions[rows], advantages[rows], self.clip_range, self.eta)
                value_loss = F.mse_loss(self.policy.predict_values(obs[rows]).squeeze(1), returns[rows])
                self._descend(self.policy, losses.mean() + self.vf_coef * value_loss)
        if (self.iteration + 1) % self.magnet_interval == 0:
            self.magnet.load_state_dict(self.policy.state_dict())
        self.logger.record("train/policy_loss", losses.mean().item())
        self.logger.record("train/value_loss", value_loss.item())

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer", "magnet"], []

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "magnet"]
