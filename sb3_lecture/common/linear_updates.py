"""Update rules of linear function approximation, v(s) = wᵀx(s) (Sutton & Barto 2018, chapters 9 to 12), as pure functions.

Features are sparse: ``index`` and ``value``, both [k], say which entries of x are not 0, so an update costs what is active.
Weights ``w`` are [m, d], one row an action (prediction: one row). ``discount`` is γ, or 0 behind an end, so no rule knows
about episodes; ``rho`` is the importance ratio π(a|s) / b(a|s), 1 on-policy. Each rule returns the TD error δ.

Plain functions in Python, inlined into the compiled loops of ``linear/``.
"""

import numpy as np
from numba.extending import register_jitable

ACCUMULATING, REPLACING, TRUE_ONLINE = 0, 1, 2
TRACES = {"accumulating": ACCUMULATING, "replacing": REPLACING, "true-online": TRUE_ONLINE}

rule = register_jitable(forceinline=True)  # an array handed to a function that is not inlined is copied field by field


@rule
def dot(w: np.ndarray, a: int, index: np.ndarray, value: np.ndarray) -> float:
    """wₐᵀx."""
    total = 0.0
    for k in range(index.shape[0]):
        total += w[a, index[k]] * value[k]
    return total


@rule
def add(w: np.ndarray, a: int, index: np.ndarray, value: np.ndarray, step: float) -> None:
    """wₐ ← wₐ + step · x."""
    for k in range(index.shape[0]):
        w[a, index[k]] += step * value[k]


@rule
def max_value(w: np.ndarray, index: np.ndarray, value: np.ndarray) -> float:
    """max_a wₐᵀx."""
    best = dot(w, 0, index, value)
    for a in range(1, w.shape[0]):
        best = max(best, dot(w, a, index, value))
    return best


@rule
def semi_gradient(
    w: np.ndarray, a: int, index: np.ndarray, value: np.ndarray, target: float, alpha: float, rho: float
) -> float:
    """One step w ← w + α ρ [target − wᵀx] x (eq. 9.7, 10.2, 11.2): the target's own gradient is left out, hence "semi"."""
    delta = target - dot(w, a, index, value)
    add(w, a, index, value, alpha * rho * delta)
    return delta


@rule
def trace_step(
    w: np.ndarray, z: np.ndarray, moved: float, a: int, index: np.ndarray, value: np.ndarray,
    r: float, discount: float, next_value: float, alpha: float, rho: float, fading: float, kind: int,
) -> float:  # fmt: skip
    """One step of TD(λ) or Sarsa(λ); w and the trace z [m, d] change in place.

    - accumulating: z ← ρ (γλ z + x), w ← w + α δ z (eq. 12.5, 12.7; off-policy 12.25)
    - replacing: z ← γλ z, then zᵢ ← 1 for each active feature (section 12.7's box)
    - true online: z ← γλ z + (1 − α γλ zᵀx) x, w ← w + α (δ + V − V_old) z − α (V − V_old) x (section 12.5's box)

    :param moved: V − V_old, how far this trace's last update moved the value of x (true online only)
    :param next_value: wᵀx' before this update
    :param fading: γλ, 0 at the start of an episode
    :return: δ = r + discount · next_value − wᵀx
    """
    delta = r + discount * next_value - dot(w, a, index, value)
    overlap = fading * dot(z, a, index, value)  # γλ zᵀx with the old z
    for b in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[b, j] *= fading
    if kind == REPLACING:
        for k in range(index.shape[0]):
            if value[k] != 0.0:  # rows of a matrix are filled up with zeros
                z[a, index[k]] = 1.0
    else:
        add(z, a, index, value, 1.0 - alpha * overlap if kind == TRUE_ONLINE else 1.0)
    if kind == TRUE_ONLINE:
        step = alpha * (delta + moved)
    else:
        step = alpha * delta
        if rho != 1.0:
            for b in range(z.shape[0]):
                for j in range(z.shape[1]):
                    z[b, j] *= rho
    for b in range(z.shape[0]):
        for j in range(z.shape[1]):
            w[b, j] += step * z[b, j]
    if kind == TRUE_ONLINE:
        add(w, a, index, value, -alpha * moved)
    return delta


@rule
def gradient_td(
    w: np.ndarray, v: np.ndarray, index: np.ndarray, value: np.ndarray, next_index: np.ndarray, next_value: np.ndarray,
    r: float, discount: float, alpha: float, beta: float, rho: float, corrected: bool,
) -> float:  # fmt: skip
    """One step of GTD2, or of TDC where ``corrected`` (Sutton et al. 2009); w and v, both [1, d], change in place.

    v estimates E[xxᵀ]⁻¹ E[ρ δ x]; both w and v use the old v.

    - GTD2: w ← w + α ρ (x − γ x') xᵀv (section 11.7)
    - TDC: w ← w + α ρ (δ x − γ x' xᵀv)
    - v ← v + β ρ (δ − xᵀv) x
    """
    delta = r + discount * dot(w, 0, next_index, next_value) - dot(w, 0, index, value)
    guess = dot(v, 0, index, value)  # xᵀv
    add(w, 0, index, value, alpha * rho * (delta if corrected else guess))
    add(w, 0, next_index, next_value, -alpha * rho * discount * guess)
    add(v, 0, index, value, beta * rho * (delta - guess))
    return delta


@rule
def least_squares(
    inverse: np.ndarray, b: np.ndarray, z: np.ndarray, index: np.ndarray, value: np.ndarray,
    next_index: np.ndarray, next_value: np.ndarray, r: float, discount: float, left: np.ndarray, right: np.ndarray,
) -> None:  # fmt: skip
    """One step of LSTD (Bradtke & Barto 1996): A ← A + z (x − γx')ᵀ, b ← b + r z (eq. 9.20), and A⁻¹ with them.

    The inverse of a matrix with one product uvᵀ added is known (Sherman & Morrison 1950; eq. 9.22):
    A⁻¹ ← A⁻¹ − (A⁻¹ z) ((x − γx')ᵀ A⁻¹) / (1 + (x − γx')ᵀ A⁻¹ z). O(d²) a step.

    :param inverse: A⁻¹ [d, d], changed in place
    :param b: [d], changed in place
    :param z: the trace [d]; x itself in LSTD(0)
    :param left: scratch [d], becomes A⁻¹ z
    :param right: scratch [d], becomes (x − γx')ᵀ A⁻¹
    """
    d = b.shape[0]
    for j in range(d):
        left[j] = 0.0
        right[j] = 0.0
        b[j] += r * z[j]
    for j in range(d):
        if z[j] != 0.0:
            for i in range(d):
                left[i] += inverse[i, j] * z[j]
    for k in range(index.shape[0]):
        for j in range(d):
            right[j] += value[k] * inverse[index[k], j]
    for k in range(next_index.shape[0]):
        for j in range(d):
            right[j] -= discount * next_value[k] * inverse[next_index[k], j]
    scale = 1.0
    for k in range(index.shape[0]):
        scale += value[k] * left[index[k]]
    for k in range(next_index.shape[0]):
        scale -= discount * next_value[k] * left[next_index[k]]
    for i in range(d):
        if left[i] != 0.0:
            step = left[i] / scale
            for j in range(d):
                inverse[i, j] -= step * right[j]
