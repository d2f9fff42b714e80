"""What torch's optimizers lack, and the one that models of ours have by default."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch as th

__all__ = ["FUSED_ADAM", "LaProp", "fused_adam", "policy_defaults", "without_denormals"]

FUSED_ADAM: dict[str, Any] = {"fused": True}  # all parameters in one kernel: a step of a small network costs a fifth


class LaProp(th.optim.Optimizer):
    """Gradients clipped by the size of what they change, scaled by their mean square, and only then averaged.

    For each tensor θ with gradient g, with bias-corrected means as in Adam:

        g ← g · min(1, c · max(‖θ‖, 10⁻³) / ‖g‖)            adaptive gradient clipping (Brock et al. 2021, eq. 3)
        v ← β₂ v + (1 − β₂) g²,   u = g / (√v̂ + ε)          LaProp (Ziyin et al. 2020, algorithm 1)
        m ← β₁ m + (1 − β₁) u,    θ ← θ − α m̂

    Adam averages before it scales; averaged afterwards no step is longer than α, whatever ε is. The norms are those of whole
    tensors (Brock et al. take rows). https://arxiv.org/abs/2002.04839, https://arxiv.org/abs/2102.06171; used by Hafner et al.
    2023, version 2.

    :param params: as in torch
    :param lr: α (default 4e-5)
    :param betas: β₁ and β₂ (default 0.9, 0.999)
    :param eps: ε (default 1e-20)
    :param agc: c, None for no clipping (default 0.3)
    :param warmup: steps over which α grows linearly from 0 (default 0)
    :raises ValueError: for a number out of range
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 4e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        agc: float | None = 0.3,
        warmup: int = 0,
    ) -> None:
        if lr < 0 or warmup < 0 or eps <= 0 or (agc is not None and agc <= 0) or not all(0 <= b < 1 for b in betas):
            raise ValueError(
                f"{lr=}, {warmup=} must be at least 0, {eps=} positive, {agc=} positive or None, {betas=} in [0, 1)"
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "agc": agc, "warmup": warmup, "n_steps": 0})

    @th.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step on all parameters that have a gradient.

        :param closure: computes the loss anew, as in torch
        :return: its loss
        """
        loss = None
        if closure is not None:
            with th.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params)
        return loss

    def _step_group(self, group: dict[str, Any], params: list[th.Tensor]) -> None:
        group["n_steps"] += 1
        t, (beta1, beta2) = group["n_steps"], group["betas"]
        for p in params:
            if not self.state[p]:
                self.state[p].update(square=th.zeros_like(p), momentum=th.zeros_like(p))
        squares = [self.state[p]["square"] for p in params]  # v
        momenta = [self.state[p]["momentum"] for p in params]  # m
        grads: Any = [p.grad for p in params]
        if group["agc"] is not None:
            sizes = th.stack(th._foreach_norm(params)).clamp(min=1e-3) * group["agc"]  # [n_tensors]
            norms = th.stack(th._foreach_norm(grads))
            factors = (sizes / norms.clamp(min=1e-30)).clamp(max=1.0)
            grads = th._foreach_mul(grads, list(factors.unbind()))
        th._foreach_mul_(squares, beta2)
        th._foreach_addcmul_(squares, grads, grads, 1.0 - beta2)
        scales = th._foreach_div(squares, 1.0 - beta2**t)  # v̂
        th._foreach_sqrt_(scales)
        th._foreach_add_(scales, group["eps"])
        th._foreach_mul_(momenta, beta1)
        th._foreach_addcdiv_(momenta, grads, scales, 1.0 - beta1)
        lr = group["lr"] * min(1.0, t / group["warmup"] if group["warmup"] else 1.0)
        th._foreach_add_(params, momenta, alpha=-lr / (1.0 - beta1**t))


@contextmanager
def policy_defaults(model: Any, **defaults: Any) -> Iterator[None]:
    """Build a policy with defaults of the algorithm's own, and leave ``policy_kwargs`` as the user gave them.

    They are saved as given too, so that ``load(..., policy_kwargs=<the same>)`` finds them equal.

    :param model: an SB3 model, about to build its policy
    :param defaults: arguments of the policy; those in ``policy_kwargs`` come before them
    """
    given = model.policy_kwargs
    model.policy_kwargs = {**defaults, **given}
    try:
        yield
    finally:
        model.policy_kwargs = given


def fused_adam(model: Any, **more: Any) -> AbstractContextManager[None]:
    """Build a policy whose Adam runs fused, unless ``policy_kwargs`` names another optimizer or arguments of its own.

    :param model: an SB3 model, about to build its policy
    :param more: further arguments of Adam, such as ``eps``
    """
    named = "optimizer_class" in model.policy_kwargs
    return policy_defaults(model, **({} if named else {"optimizer_kwargs": FUSED_ADAM | more}))


@contextmanager
def without_denormals() -> Iterator[None]:
    """Round numbers below 1e-38 to 0 meanwhile: Adam's averages for silent units decay to such, and CPUs are slow at them."""
    th.set_flush_denormal(True)
    try:
        yield
    finally:
        th.set_flush_denormal(False)
