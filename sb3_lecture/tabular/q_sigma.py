"""n-step Q(σ) (De Asis et al. 2018; Sutton & Barto 2018, section 7.6): between sampling and expectation.

At each step of the return σ says how far the action that was taken counts as a sample (1: Sarsa, with the importance ratio
ρ = π(a' | s') / b(a' | s')) and how far the expectation under the target policy π is taken (0: tree backup):

    G = r + γ (σ ρ + (1 - σ) π(a' | s')) (G' - Q(s', a')) + γ Σ_a π(a | s') Q(s', a)   (eq. 7.17)

The recursion starts at G' = Q(s', a') where the window ends, so the last step is always an expectation. σ = 0 is tree
backup. σ = 1 is off-policy n-step Sarsa with control variates (eq. 7.14); where π = b, n-step Sarsa plus terms that are 0 in
expectation. ``control_variate=False`` leaves those out, as De Asis et al. do: then σ = 1 with π = b is n-step Sarsa itself.

A ratio is that of the moment when its action was chosen, π(· | s') and Q that of the update (the box of section 7.6); π takes
tied actions with equal chances. Deviation: σ is one number, where the box lets it differ from step to step.
"""

from typing import Any, NamedTuple

from sb3_lecture.common.checks import FLAG, Integer, Real, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import q_sigma_return, q_sigma_return_without_control_variate
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, step_size
from sb3_lecture.tabular.n_step_sarsa import Window, is_due, pop
from sb3_lecture.tabular.off_policy_n_step_sarsa import (
    ON_POLICY,
    check_coverage,
    make_ratio_window,
    target,
    wait,
)
from sb3_lecture.tabular.sarsa import act_committed


class Sigma(NamedTuple):
    """ε of the target policy, or ON_POLICY; σ; whether eq. 7.17's control variates are used."""

    target_eps: float
    sigma: float
    control_variate: bool


@rule
def sigma_return(agent: Agent, i: int, discount: float, s2: int, a2: int) -> float:
    """The return of the oldest transition that waits, from (s', a') back to it (eq. 7.17)."""
    memory, sigma = agent.memory, agent.options.sigma
    x, b, rho, g = s2, a2, memory.next_ratio[i], agent.q[s2, a2]
    for k in range(memory.waiting[i] - 1, -1, -1):
        j = (memory.first[i] + k) % memory.reward.shape[1]
        r, q, probs = memory.reward[i, j], agent.q[x], target(agent, x, memory.probs)
        if agent.options.control_variate:
            g = q_sigma_return(r, discount, q, probs, b, rho, sigma, g)
        else:
            g = q_sigma_return_without_control_variate(r, discount, q, probs, b, rho, sigma, g)
        x, b, rho, discount = memory.state[i, j], memory.action[i, j], memory.ratio[i, j], agent.gamma
    return g


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Q(s₀, a₀) ← Q(s₀, a₀) + α [G - Q(s₀, a₀)] for the pair of n steps ago; at an episode's end for all that still wait."""
    memory = agent.memory
    a2 = wait(agent, i, s, a, r, discount, s2, last)
    while is_due(memory, i, last):
        s0, a0 = memory.state[i, memory.first[i]], memory.action[i, memory.first[i]]
        agent.q[s0, a0] += step_size(agent, s0, a0) * (sigma_return(agent, i, discount, s2, a2) - agent.q[s0, a0])
        pop(memory, i)


class QSigma(TabularAlgorithm):
    """n-step Q(σ).

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param n_steps: n, steps of the return (default 4)
    :param sigma: σ in [0, 1]: 1 samples the actions, 0 takes expectations (default 0.5)
    :param target_eps: ε of the target policy π, the probability of a random action; 0: greedy; None: π is the behaviour
        policy (default 0.0)
    :param control_variate: eq. 7.17 as it stands (default True), or without the control variates of its sampled half
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if an argument is out of its range, or where σ > 0 the behaviour does not cover the target policy
    """

    _per_env = (*Window._fields, "ratio", "next_ratio")

    def __init__(
        self,
        policy: Any = "TabularPolicy",
        env: Any = None,
        n_steps: int = 4,
        sigma: float = 0.5,
        target_eps: float | None = 0.0,
        control_variate: bool = True,
        **kwargs: Any,
    ) -> None:
        self.n_steps = n_steps
        self.sigma = sigma
        self.target_eps = target_eps
        self.control_variate = control_variate
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, n_steps=Integer(1), sigma=Real(0, 1), target_eps=Real(0, 1, none=True), control_variate=FLAG)
        if self.sigma > 0.0:
            check_coverage(self.exploration, self.exploration_final_eps, self.target_eps)

    def _rules(self) -> Rules:
        return act_committed, update

    def _make_memory(self) -> NamedTuple:
        return make_ratio_window(self.n_envs, int(self.n_steps), self.policy.table.shape[1])

    def _options(self) -> NamedTuple:
        target_eps = ON_POLICY if self.target_eps is None else float(self.target_eps)
        return Sigma(target_eps, float(self.sigma), bool(self.control_variate))
