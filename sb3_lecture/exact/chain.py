"""What a policy is worth: a policy makes a Markov chain with rewards of an MDP, and v = r + W v is solved exactly.

W holds γ p(s' | s) over outcomes that do not end the episode, ``leak`` the rest of each row: leak(s) = 1 - Σ W(s, s'),
kept as a number of its own. The chain is cut into strong components (``graph.py``), solved from the sinks up:

- a component of moderate size by state elimination (Grassmann, Taksar & Heyman 1985, "Regenerative analysis and steady
  state distributions for Markov chains"): Gaussian elimination in which every pivot is the *sum* of what leaves a state,
  never a difference, so that a chain that ends after 10^12 steps loses no digit;
- a large one by Gauss-Seidel sweeps in alternating directions (plain ones with MacQueen's bounds where nothing leaves and
  mixing is fast) until a proven error bound is met: for w > 0 with
  w - W w >= c > 0, |V_exact - V| <= max |r + W V - V| max(w) / c. For γ < 1, w = 1 serves with c = 1 - γ; else w is swept
  towards the expected number of steps;
- a component that is never left (γ = 1, no leak) has no finite value unless its rewards are all 0: -∞ or +∞ by the sign
  of its mean reward a step, NaN where that is zero, as the sum then only swings.

A chain that cannot return is a sequence of one-state components: one pass, whatever its length. The compiled loops are in
``chain_kernels.py``; ``plain_chain_value`` says the same in twenty lines.
"""

import numba
import numpy as np
import numpy.typing as npt

from sb3_lecture.exact.bellman import check_gamma
from sb3_lecture.exact.chain_kernels import Chain, solve_components
from sb3_lecture_envs.mdp import TabularMDP

#: a component is eliminated if that takes at most so many multiplications (discounted, undiscounted) …
ELIMINATION_WORK = (2e8, 4e9)
#: … and so many numbers in the band
ELIMINATION_MEMORY = 4e7
#: sweeps over one large component before giving up
MAX_SWEEPS = 1_000_000
#: an error bound over ``tol`` is let pass if it is below this share of the largest value
ACCEPTED_SHARE = 1e-6
#: rewards of one state that cancel to less than this share of their sizes are 0
EQUAL_REWARDS = 1e-14
#: entries of one row among which another way to the same state is looked for
FEW_ENTRIES = 32
#: how far a policy's probabilities may sum from 1: networks give float32
SUM_TOLERANCE = 1e-4


def plain_chain_value(chain: Chain) -> np.ndarray:
    """What ``chain_value`` computes, plainly: dense and cubic. The slow twin that tests hold it against.

    :return: values, float64 [S]
    """
    n = chain.leak.shape[0]
    w = np.zeros((n, n))
    np.add.at(w, (np.repeat(np.arange(n), np.diff(chain.ptr)), chain.head), chain.weight)
    reach = np.linalg.matrix_power((w > 0).astype(float) + np.eye(n), n) > 0  # who can get to whom
    closed = ~(reach & (chain.leak > 1e-15)).any(axis=1) & (reach <= reach.T).all(axis=1)
    v, finite = np.zeros(n), np.ones(n, np.bool_)
    for s in np.flatnonzero(closed):
        members = reach[s]  # its component: nothing leads out of it
        balance = np.vstack([w[np.ix_(members, members)].T - np.eye(members.sum()), np.ones(members.sum())])
        share = np.linalg.lstsq(balance, np.append(np.zeros(members.sum()), 1.0), rcond=None)[0]  # of time in each state
        mean = share @ chain.reward[members]
        if chain.reward[members].any():
            v[s], finite[s] = np.nan if abs(mean) < 1e-12 else np.copysign(np.inf, mean), False
    for s in np.flatnonzero(~closed):
        endless = v[reach[s] & ~finite & closed]
        if endless.size:  # ∞ and -∞ have no sum
            v[s], finite[s] = endless[0] if (endless == endless[0]).all() else np.nan, False
    inside = finite & ~closed
    v[inside] = np.linalg.solve(np.eye(inside.sum()) - w[np.ix_(inside, inside)], chain.reward[inside])
    return v


@numba.njit(cache=True)
def _policy_chain(
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    pi: np.ndarray,
    gamma: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The chain that policy ``pi`` [S, A] makes of an MDP; a state with no action at all rests there at value 0."""
    n_states, n_actions = pi.shape
    ptr = np.zeros(n_states + 1, np.int64)
    for s in range(n_states):
        ptr[s + 1] = ptr[s]
        for a in range(n_actions):
            if pi[s, a] > 0.0:
                ptr[s + 1] += row_ptr[s * n_actions + a + 1] - row_ptr[s * n_actions + a]
    head, weight = np.empty(ptr[-1], np.int32), np.empty(ptr[-1])
    leak, gain = np.full(n_states, 1.0 - gamma), np.zeros(n_states)
    end = 0
    for s in range(n_states):
        start, size = end, 0.0
        resting = True
        for a in range(n_actions):
            if not pi[s, a] > 0.0:
                continue
            resting = False
            for j in range(row_ptr[s * n_actions + a], row_ptr[s * n_actions + a + 1]):
                p = pi[s, a] * prob[j]
                gain[s] += p * reward[j]
                size += abs(p * reward[j])
                if terminated[j]:
                    leak[s] += gamma * p
                elif gamma * p > 0.0:
                    i = start if end - start <= FEW_ENTRIES else end  # several ways to one state become one entry
                    while i < end and head[i] != next_state[j]:
                        i += 1
                    if i == end:
                        head[end], weight[end] = next_state[j], 0.0
                        end += 1
                    weight[i] += gamma * p
        if abs(gain[s]) <= EQUAL_REWARDS * size:  # what cancels is 0: it decides whether staying for ever has a value
            gain[s] = 0.0
        if resting:
            leak[s] = 1.0
        ptr[s] = start
    ptr[n_states] = end
    return ptr, head[:end].copy(), weight[:end].copy(), leak, gain


def policy_chain(mdp: TabularMDP, pi: np.ndarray, gamma: float) -> Chain:
    """The chain that a policy makes of an MDP; a state with no action at all rests there at value 0.

    :param mdp: the world
    :param pi: probabilities, float64 [S, A]
    :param gamma: discount in [0, 1]
    """
    return Chain(*_policy_chain(mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, mdp.terminated, pi, float(gamma)))


def one_hot(policy: np.ndarray, n_actions: int) -> np.ndarray:
    """Probabilities [S, A] of a deterministic policy; negative actions (rest) become rows of zeros."""
    pi = np.zeros((policy.shape[0], n_actions))
    acting = np.flatnonzero(policy >= 0)
    pi[acting, policy[acting]] = 1.0
    return pi


def policy_probabilities(mdp: TabularMDP, policy: npt.ArrayLike) -> np.ndarray:
    """A policy, actions int [S] or probabilities [S, A] → probabilities float64 [S, A] whose rows sum to 1.

    :raises ValueError: naming the state, if it is malformed
    """
    policy = np.asarray(policy)
    if policy.shape == (mdp.n_states,) and np.issubdtype(policy.dtype, np.integer):
        wrong = np.flatnonzero((policy < 0) | (policy >= mdp.n_actions))
        if wrong.size:
            s = wrong[0]
            raise ValueError(f"policy[{s}] is {policy[s]}, actions are 0 to {mdp.n_actions - 1}")
        return one_hot(policy, mdp.n_actions)
    if policy.shape != (mdp.n_states, mdp.n_actions):
        raise ValueError(
            f"policy must be integers of shape ({mdp.n_states},) or probabilities of shape ({mdp.n_states}, {mdp.n_actions}), "
            f"got {policy.dtype} of shape {policy.shape}"
        )
    pi = np.array(policy, dtype=np.float64, order="C")
    total = pi.sum(axis=1)
    wrong = np.flatnonzero(~((pi.min(axis=1) >= 0) & (np.abs(total - 1) <= SUM_TOLERANCE)))
    if wrong.size:
        s = wrong[0]
        raise ValueError(f"policy[{s}] is {pi[s].tolist()} with sum {total[s]}; it must be at least 0 and sum to 1")
    pi /= total[:, None]  # networks give float32 sums: take the rounding out
    return pi


def policy_evaluation(mdp: TabularMDP, policy: npt.ArrayLike, gamma: float, tol: float = 1e-10) -> np.ndarray:
    """v_π, the expected return of a policy from every state (Sutton & Barto, eq. 4.4), solved exactly.

    With γ = 1 a state from which the episode need not end gets the sum of its rewards all the same: 0 if the never-ending
    part gives none, -∞ or +∞ by the sign of its mean reward a step, NaN if that mean is zero (the sum only swings).

    :param mdp: the world
    :param policy: actions, int [S], or probabilities, float [S, A]
    :param gamma: discount in [0, 1]
    :param tol: error allowed for chains too large for elimination (default 1e-10)
    :return: values, float64 [S]
    :raises ValueError: if the policy or gamma is malformed
    """
    check_gamma(gamma)
    return chain_value(policy_chain(mdp, policy_probabilities(mdp, policy), gamma), gamma < 1.0, tol)[0]


def episode_lengths(mdp: TabularMDP, policy: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Expected steps until a policy has ended the episode, or has come to where it stays for ever.

    :param mdp: the world
    :param policy: actions, int [S], or probabilities, float [S, A]
    :return: expected steps, float64 [S], finite everywhere; the states in which it stays for ever, bool [S]
    """
    chain = policy_chain(mdp, policy_probabilities(mdp, policy), 1.0)
    _, closed, _ = chain_value(chain, False)
    steps, _, _ = chain_value(chain._replace(reward=(~closed).astype(np.float64)), False)
    return steps, closed


def chain_value(
    chain: Chain, discounted: bool, tol: float = 1e-10, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Expected (discounted) sum of rewards from every state of a Markov chain.

    :param chain: the chain; its ``leak`` is positive everywhere if discounted
    :param discounted: whether γ < 1
    :param tol: error allowed where a component is too large to be eliminated
    :param start: values that the sweeps begin with, [S]; default zeros
    :return: values float64 [S] (-∞, +∞ or NaN where the sum has no finite value), the states of components that are never
        left, bool [S], and a proven bound of the sweeps' error, rounding apart
    :raises RuntimeError: if sweeps do not meet ``tol``
    """
    value = np.zeros(chain.leak.shape[0]) if start is None else np.array(start, dtype=np.float64)
    work = ELIMINATION_WORK[0 if discounted else 1]
    value, closed, bound = solve_components(chain, discounted, tol, work, ELIMINATION_MEMORY, MAX_SWEEPS, value)
    scale = np.abs(value[np.isfinite(value)]).max(initial=1.0)
    if bound > tol and not bound <= ACCEPTED_SHARE * scale:
        raise RuntimeError(f"Policy evaluation stopped after {MAX_SWEEPS} sweeps with an error bound of {bound:.3g}")
    return value, closed, float(bound)
