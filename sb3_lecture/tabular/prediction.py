"""What the prediction methods share: a given policy, values of states instead of actions."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_lecture.common.compiling import rule
from sb3_lecture.tabular.base import TabularAlgorithm
from sb3_lecture.tabular.kernels import AGENT_STREAM, Agent, uniform
from sb3_lecture.tabular.policy import TabularPolicy


def policy_probabilities(policy: Any, n_states: int, n_actions: int, name: str = "target_policy") -> np.ndarray:
    """Any way to write a policy down → π(a | s), float64 [S, A].

    :param policy: None or "uniform": all actions alike; [S]: one action a state; [S, A]: probabilities
    :param n_states: S
    :param n_actions: A
    :param name: the argument's name, for the error
    :raises ValueError: if it is none of these
    """
    if policy is None or (isinstance(policy, str) and policy == "uniform"):
        return np.full((n_states, n_actions), 1.0 / n_actions)
    pi = np.asarray(policy)
    if pi.shape == (n_states,) and pi.dtype.kind in "iu" and 0 <= pi.min() and pi.max() < n_actions:
        return np.eye(n_actions)[pi]
    if pi.shape == (n_states, n_actions) and np.all(pi >= 0) and np.allclose(pi.sum(axis=1), 1.0, rtol=0, atol=1e-8):
        return pi.astype(np.float64)
    if pi.shape == (n_states, n_actions) and pi.dtype.kind in "iuf":
        s = int(np.argmin(np.all(pi >= 0, axis=1) & np.isclose(pi.sum(axis=1), 1.0, rtol=0, atol=1e-8)))
        raise ValueError(f"{name}[{s}] is {pi[s].tolist()}; probabilities must be at least 0 and sum to 1")
    raise ValueError(
        f"{name} must be None (uniform), one action (0 to {n_actions - 1}) for each of the {n_states} states, or "
        f"probabilities of shape ({n_states}, {n_actions}) whose rows sum to 1; got shape {pi.shape} of {pi.dtype}"
    )


def as_list(policy: Any) -> Any:
    """A policy as plain lists, so that a saved model holds it as text."""
    return policy if policy is None or isinstance(policy, str) else np.asarray(policy).tolist()


class GivenPolicy(TabularPolicy):
    """A fixed policy π and a table of state values [S, 1].

    :param observation_space: Discrete or MultiDiscrete
    :param action_space: Discrete
    :param target_policy: π, as :func:`policy_probabilities` reads it (default None, uniform)
    :param kwargs: the other arguments are those of :class:`TabularPolicy`
    """

    probabilities: th.Tensor

    def __init__(self, observation_space: Any, action_space: Any, target_policy: Any = None, **kwargs: Any) -> None:
        super().__init__(observation_space, action_space, **{**kwargs, "n_columns": 1})
        pi = policy_probabilities(target_policy, self.index.size, int(action_space.n))
        self.register_buffer("probabilities", th.from_numpy(pi))  # float64 [S, A]

    def _greedy(self, states: np.ndarray) -> np.ndarray:
        return self.probabilities.numpy()[states].argmax(axis=1)

    def _behaviour(self, states: np.ndarray) -> np.ndarray:
        return self.probabilities.numpy()[states]


@rule
def act_given(agent: Agent, i: int, s: int) -> int:
    """An action of the policy that is followed."""
    b, u, a = agent.memory.behavior, uniform(agent.rng, AGENT_STREAM), 0
    while a + 1 < b.shape[1] and u >= b[s, a]:
        u -= b[s, a]
        a += 1
    return a


class PredictionAlgorithm(TabularAlgorithm):
    """The base of the prediction methods: v_π of a given policy. ``predict`` follows that policy.

    :param policy: "TabularPolicy" ("MlpPolicy" is another name of it)
    :param env: the env, its id, or a VecEnv
    :param target_policy: π: None for uniform, one action a state [S], or probabilities [S, A]
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`; those of exploration have no effect
    :raises ValueError: if the policy does not fit the spaces
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"TabularPolicy": GivenPolicy, "MlpPolicy": GivenPolicy}
    #: exact grading looks at ``state_values``, not at the policy
    predicts_values: ClassVar[bool] = True
    _n_columns = 1

    def __init__(
        self, policy: Any = "TabularPolicy", env: Any = None, target_policy: npt.ArrayLike | str | None = None, **kwargs: Any
    ) -> None:
        self.target_policy = as_list(target_policy)
        super().__init__(policy, env, **kwargs)

    def _policy_arguments(self) -> dict[str, Any]:
        return {**super()._policy_arguments(), "target_policy": self.target_policy}

    def _followed(self) -> np.ndarray:
        """The policy that is followed, float64 [S, A]."""
        return np.array(self.policy.probabilities.numpy())  # type: ignore[union-attr, operator]

    @property
    def v_table(self) -> np.ndarray:
        """The values of the states, float64 [S], a view."""
        return self.policy.table.numpy()[:, 0]

    def state_values(self, observation: Any) -> np.ndarray:
        """The values of given states, float64 [n]."""
        return self.v_table[self.policy.index(observation)]

    def _make_memory(self) -> NamedTuple:
        raise NotImplementedError
