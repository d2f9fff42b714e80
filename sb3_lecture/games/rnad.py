"""R-NaD with a network: DeepNash in small (Perolat et al. 2022, "Mastering the game of Stratego with model-free multiagent
reinforcement learning", Science 378; methods, "Deep nash").

The three steps of :mod:`sb3_lecture.games.tabular_rnad`, with values estimated from games played against oneself:

1. Reward transformation: whoever plays a pays η log(π(a) / π_reg(a)) to the other.
2. Dynamics: λ-returns of the transformed rewards (on the policy that plays, V-trace's ratios are 1), an action value for every
   action of a state of which one was taken,

       Q̂(a) = V − cost(a) + 1[a = a_t] / π(a_t) (G_t − V),    cost(a) = η log(π(a) / π_reg(a))

   and NeuRD's update: the gradient of Σ_a y(a) clip(Q̂(a) − Σ_b π(b) Q̂(b)) in the logits y, cut off where it would push a logit
   further than β from the others' mean.
3. Update: every ``regularization_interval`` iterations π_reg ← the averaged policy.

Deviations: no replay (each batch is used once, so that no ratios are needed), one regularisation policy where DeepNash
interpolates between two, no fine-tuning of the played policy. What plays after training is, as in the paper, the network whose
weights are an exponential average.
"""

import copy
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch.nn import functional as F

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.games.self_play import Games, SelfPlayAlgorithm, decision_returns


def neurd_loss(logits: th.Tensor, advantages: th.Tensor, masks: th.Tensor, beta: float, clip: float) -> th.Tensor:
    """NeuRD's loss of each row: −Σ_a y(a) clip(A(a)), without the terms that would push a logit past ±β (Hennes et al. 2020).

    :param logits: y, [N, A]
    :param advantages: of all actions, [N, A]; no gradient flows through them
    :param masks: legal actions, bool [N, A]
    :param beta: how far a logit may be pushed from the mean of the legal ones
    :param clip: largest advantage that counts
    :return: [N]
    """
    legal = masks.float()
    centred = logits - (logits * legal).sum(dim=1, keepdim=True) / legal.sum(dim=1, keepdim=True)
    force = advantages.detach().clamp(-clip, clip) * legal
    allowed = ((centred < beta) & (force > 0)) | ((centred > -beta) & (force < 0))
    return -(th.where(masks, centred, th.zeros(())) * force * allowed.detach()).sum(dim=1)


def action_values(
    values: np.ndarray, costs: np.ndarray, actions: np.ndarray, probabilities: np.ndarray, returns: np.ndarray
) -> np.ndarray:
    """Estimate Q(a) of every action from one that was taken: V − cost(a) + 1[a = a_t] / π(a_t) (G_t − V).

    :param values: V, float64 [N]; any numbers, the estimate is right on the average whatever they are
    :param costs: η log(π(a) / π_reg(a)), float64 [N, A]
    :param actions: taken, int64 [N]
    :param probabilities: π(a), float64 [N, A]
    :param returns: G_t without the own cost of a_t, float64 [N]
    :return: float64 [N, A]
    """
    rows = np.arange(len(values))
    q = values[:, None] - costs  # [N, A]
    q[rows, actions] += (returns - values) / probabilities[rows, actions]
    return q


class RNaD(SelfPlayAlgorithm):
    """R-NaD with a network.

    :param policy: "MlpPolicy"
    :param env: an env of a game with hidden information, its id, or a VecEnv; its opponent does not matter
    :param learning_rate: Adam's: a number or a schedule (default 1e-3)
    :param n_games: games of an iteration (default 256)
    :param eta: η, how much leaving the regularisation policy costs (default 0.2)
    :param regularization_interval: iterations between two regularisation policies (default 200)
    :param averaging: weight of the new network in the average that plays after training, in (0, 1] (default 0.01)
    :param lambda_: of the λ-returns (default 1: the payoffs alone)
    :param beta: NeuRD's β: how far a logit may be pushed from the mean of the others (default 2)
    :param clip: largest advantage that counts, in units of the game's largest payoff (default 100)
    :param vf_coef: weight of the value loss (default 1)
    :param max_grad_norm: largest norm of the gradient (default 10)
    :param kwargs: the other arguments are those of :class:`SelfPlayAlgorithm`
    :raises ValueError: if an argument is out of its range, or the env states no such rules
    """

    def __init__(
        self,
        policy: Any = "MlpPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 1e-3,
        n_games: int = 256,
        eta: float = 0.2,
        regularization_interval: int = 200,
        averaging: float = 0.01,
        lambda_: float = 1.0,
        beta: float = 2.0,
        clip: float = 100.0,
        vf_coef: float = 1.0,
        max_grad_norm: float = 10.0,
        **kwargs: Any,
    ) -> None:
        check_arguments(
            locals(), eta=Real(0), regularization_interval=Integer(1), averaging=Real(above=0, high=1), beta=Real(above=0),
            clip=Real(above=0),
        )  # fmt: skip
        self.eta, self.regularization_interval, self.averaging = eta, regularization_interval, averaging
        self.beta, self.clip = beta, clip
        super().__init__(policy, env, learning_rate, n_games, lambda_, vf_coef, max_grad_norm, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        #: ``policy`` is the average, which plays after training; ``learner`` learns and plays against itself
        self.learner, self.regular = copy.deepcopy(self.policy), copy.deepcopy(self.policy)

    def _acting(self) -> Any:
        return self.learner

    def _train(self, games: Games) -> None:
        valid = games.valid  # [T, n]
        obs = th.as_tensor(games.observations[valid], device=self.device)  # [N, O]
        masks = th.as_tensor(games.masks[valid], device=self.device)  # [N, A]
        actions = games.actions[valid]  # [N]
        logits, logs = self.log_probabilities(self.learner, obs, masks)
        values = self.learner.predict_values(obs).squeeze(1)  # [N]
        with th.no_grad():
            _, log_regular = self.log_probabilities(self.regular, obs, masks)
        costs = (self.eta * th.where(masks, logs.detach() - log_regular, 0.0)).cpu().numpy().astype(np.float64)  # [N, A]
        scale = self._scale  # payoffs are learned in units of the largest
        scaled = games._replace(payoffs=games.payoffs / scale)
        taken, known = np.zeros(valid.shape), np.zeros(valid.shape)
        taken[valid] = costs[np.arange(len(actions)), actions]
        known[valid] = values.detach().cpu().numpy()
        returns = decision_returns(scaled, taken, known, self.lambda_)[valid]  # [N]
        q = action_values(known[valid], costs, actions, np.exp(logs.detach().cpu().numpy().astype(np.float64)), returns)
        advantages = th.as_tensor(q, dtype=th.float32, device=self.device)  # [N, A]
        advantages = advantages - (logs.detach().exp() * advantages).sum(dim=1, keepdim=True)
        policy_loss = neurd_loss(logits, advantages, masks, self.beta, self.clip).mean()
        value_target = th.as_tensor(returns - taken[valid], dtype=th.float32, device=self.device)
        value_loss = F.mse_loss(values, value_target)
        self._descend(self.learner, policy_loss + self.vf_coef * value_loss)
        with th.no_grad():
            for mean, new in zip(self.policy.parameters(), self.learner.parameters(), strict=True):
                mean.lerp_(new, self.averaging)
        if (self.iteration + 1) % self.regularization_interval == 0:
            self.regular.load_state_dict(self.policy.state_dict())
        self.logger.record("train/policy_loss", policy_loss.item())
        self.logger.record("train/value_loss", value_loss.item())

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "learner", "learner.optimizer", "regular"], []

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "learner", "regular"]
