"""The update rules of tables, as pure functions of one transition: (q, a, r, discount, q').

``_tm1`` is the time acted at, ``_t`` the time led to. A ``q`` is the row of a state, float64 [A]; a ``v`` one number. The
*discount* stands for all that follows: γ as a rule, 0 where the episode is over. At a time limit the episode is not over, so
the discount is γ there: who calls a rule decides that, no rule knows of it. Where a function returns a *TD error* δ, the
learner moves by it: q(s, a) ← q(s, a) + α δ.

Equation numbers are those of Sutton & Barto, Reinforcement Learning, 2nd edition (2018). Every function is a ``rule``:
Python calls it, and compiled loops take its code in.
"""

import numpy as np

from sb3_lecture.common.compiling import rule

# ---- values of a row


@rule
def max_value(q: np.ndarray) -> float:
    """max_a q(a) of a row [A]."""
    best = q[0]
    for b in range(1, q.shape[0]):
        best = max(best, q[b])
    return best


@rule
def mean_value(q: np.ndarray, probs: np.ndarray) -> float:
    """Σ_a π(a) q(a): the value of a state under a policy; both [A]."""
    total = 0.0
    for b in range(q.shape[0]):
        total += probs[b] * q[b]
    return total


# ---- TD errors


@rule
def td_learning(v_tm1: float, r_t: float, discount_t: float, v_t: float) -> float:
    """TD(0): δ = r + γ v(s') - v(s) (eq. 6.5)."""
    return r_t + discount_t * v_t - v_tm1


@rule
def sarsa(q_tm1: np.ndarray, a_tm1: int, r_t: float, discount_t: float, q_t: np.ndarray, a_t: int) -> float:
    """Sarsa: δ = r + γ q(s', a') - q(s, a) (eq. 6.7)."""
    return r_t + discount_t * q_t[a_t] - q_tm1[a_tm1]


@rule
def expected_sarsa(
    q_tm1: np.ndarray, a_tm1: int, r_t: float, discount_t: float, q_t: np.ndarray, probs_t: np.ndarray
) -> float:
    """Expected Sarsa: δ = r + γ Σ_a' π(a' | s') q(s', a') - q(s, a) (eq. 6.9); ``probs_t`` is π(· | s'), [A]."""
    return r_t + discount_t * mean_value(q_t, probs_t) - q_tm1[a_tm1]


@rule
def q_learning(q_tm1: np.ndarray, a_tm1: int, r_t: float, discount_t: float, q_t: np.ndarray) -> float:
    """Q-learning: δ = r + γ max_a' q(s', a') - q(s, a) (eq. 6.8)."""
    return r_t + discount_t * max_value(q_t) - q_tm1[a_tm1]


@rule
def double_q_learning(q_tm1: np.ndarray, a_tm1: int, r_t: float, discount_t: float, q_t_other: np.ndarray, a_t: int) -> float:
    """Double Q-learning: δ = r + γ Q2(s', a') - Q1(s, a) with a' = argmax Q1(s', ·) (eq. 6.10).

    :param q_tm1: Q1's row of s, the table that learns
    :param a_tm1: a
    :param r_t: r
    :param discount_t: γ, or 0
    :param q_t_other: Q2's row of s', the table that judges
    :param a_t: an action that is best in Q1's row of s'; who draws it settles ties
    """
    return r_t + discount_t * q_t_other[a_t] - q_tm1[a_tm1]


# ---- returns of several steps


@rule
def discounted_return(r_t: float, discount_t: float, g_t: float) -> float:
    """G = r + γ G', one step back through an episode (eq. 3.9)."""
    return r_t + discount_t * g_t


@rule
def n_step_return(r_t: np.ndarray, first: int, n: int, gamma: float, value: float) -> float:
    """G = r₁ + γ r₂ + … + γⁿ⁻¹ rₙ + γⁿ v (eqs. 7.1 and 7.4).

    :param r_t: rewards as a ring, float64 [at least n]
    :param first: where r₁ stands in it
    :param n: how many rewards
    :param gamma: γ
    :param value: v, what the state after them is worth; 0 where the episode is over
    """
    for k in range(n - 1, -1, -1):
        value = discounted_return(r_t[(first + k) % r_t.shape[0]], gamma, value)
    return value


@rule
def tree_backup_return(r_t: float, discount_t: float, q_t: np.ndarray, probs_t: np.ndarray, a_t: int, g_t: float) -> float:
    """G = r + γ Σ_{a ≠ a'} π(a | s') q(s', a) + γ π(a' | s') G', one step back (eq. 7.16).

    :param r_t: r
    :param discount_t: γ, or 0
    :param q_t: the row of s', [A]
    :param probs_t: π(· | s'), [A]
    :param a_t: a', the action taken in s'
    :param g_t: G', the return from (s', a') on; at the last step q(s', a'), and G is Expected Sarsa's target (eq. 7.15)
    """
    value = 0.0
    for b in range(q_t.shape[0]):
        value += probs_t[b] * (g_t if b == a_t else q_t[b])
    return r_t + discount_t * value


@rule
def q_sigma_return(
    r_t: float, discount_t: float, q_t: np.ndarray, probs_t: np.ndarray, a_t: int, rho_t: float, sigma: float, g_t: float
) -> float:
    """G = r + γ (σ ρ + (1 - σ) π(a' | s')) (G' - q(s', a')) + γ Σ_a π(a | s') q(s', a), one step back (eq. 7.17).

    :param r_t: r
    :param discount_t: γ, or 0
    :param q_t: the row of s', [A]
    :param probs_t: π(· | s'), [A]
    :param a_t: a', the action taken in s'
    :param rho_t: ρ = π(a' | s') / b(a' | s')
    :param sigma: σ: 1 samples a', 0 takes the expectation
    :param g_t: G', the return from (s', a') on; at the last step q(s', a')
    """
    weight = sigma * rho_t + (1.0 - sigma) * probs_t[a_t]
    return r_t + discount_t * (weight * (g_t - q_t[a_t]) + mean_value(q_t, probs_t))


@rule
def q_sigma_return_without_control_variate(
    r_t: float, discount_t: float, q_t: np.ndarray, probs_t: np.ndarray, a_t: int, rho_t: float, sigma: float, g_t: float
) -> float:
    """G = r + γ [σ ρ G' + (1 - σ) (Σ_{a ≠ a'} π(a | s') q(s', a) + π(a' | s') G')]: plain sampling mixed with the tree.

    Eq. 7.17 without the part of the sampled half that is 0 in expectation, γ σ (Σ_a π(a | s') q(s', a) - ρ q(s', a')), as in
    De Asis et al. (2018); the parameters are those of ``q_sigma_return``.
    """
    tree = tree_backup_return(0.0, 1.0, q_t, probs_t, a_t, g_t)
    return r_t + discount_t * (sigma * rho_t * g_t + (1.0 - sigma) * tree)


# ---- importance sampling


@rule
def off_policy_error(q: float, rho: float, g: float) -> float:
    """ρ (G - q), where ρ belongs to the actions after the first (eq. 7.11): q moves by α times it."""
    return rho * (g - q)


@rule
def importance_ratio(rho: float, target: float, behavior: float) -> float:
    """ρ_{t:T-1} = π(a | s) / b(a | s) · ρ_{t+1:T-1}, one step back through an episode (eq. 5.3)."""
    return rho * (target / behavior)


@rule
def ordinary_error(q: float, rho: float, g: float) -> float:
    """ρ G - q: with step size 1/N, the mean of the weighted returns (eq. 5.5)."""
    return rho * g - q


@rule
def weighted_change(q: float, rho: float, g: float, total: float) -> float:
    """(ρ / C) (G - q), C being the sum of the weights, ρ included (eq. 5.8); 0 where ρ is 0."""
    if rho == 0.0:
        return 0.0
    return rho / total * (g - q)


# ---- eligibility traces


@rule
def accumulating_trace(e: float) -> float:
    """The trace of what has just been met: e + 1 (section 12.2; e has faded by γλ already)."""
    return e + 1.0


@rule
def replacing_trace(e: float) -> float:
    """The trace of what has just been met: 1, whatever it was (Singh & Sutton 1996; section 12.5)."""
    return 1.0


@rule
def dutch_trace(e: float, alpha: float) -> float:
    """The trace of what has just been met: e + 1 - α e (eq. 12.11; e has faded by γλ already, so α e is αγλ e_old)."""
    return e + 1.0 - alpha * e


@rule
def true_online_change(alpha: float, delta: float, moved: float, e: float, met: float) -> float:
    """α (δ + v - v_old) e - α (v - v_old) x (the box of section 12.5).

    :param alpha: α
    :param delta: δ
    :param moved: v(s) - v_old(s), how far the last update moved the value of the state that is left now
    :param e: the trace of the state to be changed
    :param met: x, 1 for the state that is left now, 0 for any other
    """
    return alpha * (delta + moved) * e - alpha * moved * met


# ---- planning


@rule
def exploration_bonus(kappa: float, tau: float) -> float:
    """Dyna-Q+'s κ √τ, τ being the time since the pair was last tried (section 8.3)."""
    return kappa * np.sqrt(tau)


@rule
def outcome_value(prob: float, r_t: float, discount_t: float, q_t: np.ndarray) -> float:
    """p(s', r | s, a) [r + γ max_a' q(s', a')], one summand of an expected update (section 8.5)."""
    return prob * (r_t + discount_t * max_value(q_t))


# ---- the gradient bandit


@rule
def softmax_weight(h: float, top: float, temperature: float) -> float:
    """exp((h - top) / temperature): an action's softmax probability, not yet normalised (eq. 2.11); top is max h."""
    return np.exp((h - top) / temperature)


@rule
def softmax_total(h: np.ndarray, temperature: float) -> float:
    """The sum of all softmax weights of a row [A]."""
    top, total = max_value(h), 0.0
    for b in range(h.shape[0]):
        total += softmax_weight(h[b], top, temperature)
    return total


@rule
def preference_gradient(advantage: float, pi: float, taken: bool) -> float:
    """(r - R̄) (1[b = a] - π(b)): by what action b's preference rises (eq. 2.12).

    :param advantage: r - R̄
    :param pi: π(b), before any preference has moved
    :param taken: whether b is the action taken
    """
    return advantage * ((1.0 if taken else 0.0) - pi)
