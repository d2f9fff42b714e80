"""Checks of what comes in: arguments when a model is built, numbers when it learns.

A wrong argument is one line that names the argument, its value and what is allowed. SB3's argument names mean the same
everywhere, so what they may be stands once, in ``rules.ALLOWED``; a class adds its own::

    check_arguments(locals(), sigma=Real(above=0), critic=Choice("v", "q"))      # the first line of __init__
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch as th

from sb3_lecture.common.rules import ALLOWED, FLAG, Choice, Integer, Real, Rule

__all__ = [
    "ALLOWED",
    "FLAG",
    "Choice",
    "Integer",
    "Real",
    "as_numbers",
    "check_arguments",
    "check_finite",
    "check_known",
    "check_settings",
    "is_finite",
    "keywords_of",
    "naming_memory",
    "naming_non_finite",
]

#: what NumPy and torch say where they have no memory
TOO_BIG = "array is too big|Maximum allowed|can't allocate memory|Storage size calculation overflowed"
Method = TypeVar("Method", bound=Callable[..., Any])


def check_arguments(arguments: Mapping[str, Any], **more: Rule) -> None:
    """Check the arguments of a constructor, and those that ``policy_kwargs`` hands to a policy.

    :param arguments: its ``locals()``, before anything else is in them; names without a rule are left alone
    :param more: rules of this class, by name; they come before those of ``ALLOWED``
    :raises TypeError: for an argument of the wrong type
    :raises ValueError: for one out of its range, NaN or infinite
    """
    rules = ALLOWED | more
    for name, value in arguments.items():
        if name in rules:
            rules[name].check(name, value)
    train_freq = arguments.get("train_freq", 1)
    Integer(1).check("train_freq", train_freq[0] if isinstance(train_freq, tuple) and train_freq else train_freq)
    if arguments.get("policy_kwargs"):
        _check_policy_arguments(arguments)


def _check_policy_arguments(arguments: Mapping[str, Any]) -> None:
    """Check what a constructor hands to its policy; names that only the policy knows are left to it."""
    given, policy = arguments["policy_kwargs"], arguments.get("policy")
    if isinstance(policy, str):
        policy = getattr(arguments.get("self"), "policy_aliases", {}).get(policy)
    check_arguments({name: value for name, value in given.items() if name != "policy_kwargs"})
    if isinstance(net_arch := given.get("net_arch"), Mapping):
        takes = "dict" in str(getattr(parameter_of(policy, "net_arch"), "annotation", "dict")).lower()
        if not takes or not set(net_arch) <= {"pi", "vf", "qf"}:
            parts = ', or of parts {"pi": […], "vf": […]}' if takes else ""
            raise ValueError(f"policy_kwargs: net_arch={net_arch!r} must be a list of widths such as [64, 64]{parts}")
    if given.get("squash_output") and arguments.get("use_sde") is False:
        raise ValueError("policy_kwargs: squash_output=True needs use_sde=True, SB3's policies squash no other actions")
    optimizer_class = given.get("optimizer_class", getattr(parameter_of(policy, "optimizer_class"), "default", None))
    if given.get("optimizer_kwargs") and isinstance(optimizer_class, type):
        _try_optimizer(optimizer_class, given["optimizer_kwargs"])
    if extra := given.get("features_extractor_kwargs"):
        default = getattr(parameter_of(policy, "features_extractor_class"), "default", None)
        extractor = given.get("features_extractor_class", default)
        if isinstance(extractor, type):
            check_known("policy_kwargs: features_extractor_kwargs", extra, keywords_of(extractor)[1:])
        check_arguments(extra, features_dim=Integer(1))


def _try_optimizer(optimizer_class: type[th.optim.Optimizer], kwargs: dict[str, Any]) -> None:
    """Let an optimizer take a step on one weight.

    :raises ValueError: if it cannot, or the weight is not finite then
    """
    if "lr" in kwargs:
        raise ValueError(f"policy_kwargs: optimizer_kwargs={kwargs!r}: lr is given by the model's argument learning_rate")
    weight = th.nn.Parameter(th.zeros(1))
    weight.grad = th.ones(1)
    try:
        optimizer_class([weight], lr=1e-3, **kwargs).step()  # type: ignore[call-arg]
        error: object = "its first step is not finite" if not is_finite(weight) else ""
    except Exception as caught:  # whatever an optimizer of any package says of its arguments
        error = str(caught).splitlines()[0]
    if error:
        raise ValueError(f"policy_kwargs: optimizer_kwargs={kwargs!r} do not suit {optimizer_class.__name__}: {error}")


def check_known(name: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Check the names of arguments that are handed on.

    :param name: the argument that holds them
    :param given: the arguments by name
    :param known: the names that are allowed
    :raises ValueError: naming the first that is not
    """
    known = list(known)
    for key in given:
        if key not in known:
            raise ValueError(f"{name}={given!r}: {key!r} is no argument; choose {', '.join(known) or 'none'}")


def check_settings(model: Any, **rules: Rule) -> None:
    """Check attributes of a model, by name.

    :param model: what has them
    :param rules: what each may be
    :raises TypeError: for one of the wrong type
    :raises ValueError: for one out of its range, NaN or infinite
    """
    for name, rule in rules.items():
        rule.check(name, getattr(model, name))


def keywords_of(cls: type) -> list[str]:
    """The arguments of a class and, where it hands ``**kwargs`` on, of the classes that it inherits from."""
    names: list[str] = []
    for parent in cls.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(vars(parent)["__init__"]).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in names]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names[1:]  # without self


def parameter_of(cls: Any, name: str) -> inspect.Parameter | None:
    """An argument of a class or, where it hands ``**kwargs`` on, of the classes that it inherits from."""
    for parent in getattr(cls, "__mro__", ()):
        if "__init__" in vars(parent):
            parameters = inspect.signature(vars(parent)["__init__"]).parameters
            if name in parameters:
                return parameters[name]
            if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
                break
    return None


def is_finite(source: Any) -> bool:
    """Whether all numbers of an array, a tensor, a module, or a dict or list of them are finite."""
    if isinstance(source, th.nn.Module):
        return all(is_finite(parameter) for parameter in source.parameters())
    if isinstance(source, th.Tensor):
        return bool(th.isfinite(source).all())
    if isinstance(source, Mapping):
        return all(is_finite(part) for part in source.values())
    if isinstance(source, (list, tuple)):
        return all(is_finite(part) for part in source)
    array = np.asarray(source)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def check_finite(value: float | th.Tensor, what: str, **sources: Any) -> None:
    """Refuse to learn from a number that is NaN or infinite, and say where it came from. Costs one comparison if all is well.

    :param value: the loss, or the norm of its gradient
    :param what: its name
    :param sources: what it was computed from, by name, in the order in which they are suspected: arrays, tensors, modules or
        dicts and lists of them
    :raises ValueError: if it is not finite
    """
    if math.isfinite(value):
        return
    for name, source in sources.items():
        if not is_finite(source):
            raise ValueError(f"{what} is {float(value)}: there is NaN or inf in the {name.replace('_', ' ')}")
    raise ValueError(
        f"{what} is {float(value)}, though what it was computed from ({', '.join(sources).replace('_', ' ')}) is finite: the "
        "numbers grew too large. Lower learning_rate, or scale the rewards (VecNormalize)"
    )


def as_numbers(name: str, value: Any) -> np.ndarray:
    """An argument as an array float64.

    :raises ValueError: if it is none of numbers
    """
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}={value!r} must be numbers: {error}") from error


def naming_memory(*names: str) -> Callable[[Method], Method]:
    """Decorate a method that makes arrays: where they do not fit into memory, a ValueError names what asked for them.

    :param names: attributes that say how large the arrays are; those that a class does not have are left out
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def named(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except (MemoryError, ValueError, RuntimeError) as error:
                if not isinstance(error, MemoryError) and not re.search(TOO_BIG, str(error)):
                    raise
                asked = (*names, "policy_kwargs") if isinstance(error, RuntimeError) else names  # torch's: a network's
                given = ", ".join(f"{name}={getattr(self, name)!r}" for name in asked if hasattr(self, name))
                raise ValueError(f"{given} does not fit into memory ({str(error).splitlines()[0]}); lower it") from error

        return cast(Method, named)

    return decorate


@contextmanager
def naming_non_finite(model: Any) -> Iterator[None]:
    """Say of an error while a model acts whether NaN or inf in the last observation, or in the network, is its cause.

    :param model: an SB3 model
    :raises ValueError: in the place of a ValueError or RuntimeError of torch, where that is so
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        for name, source in (("last observation of the environment", model._last_obs), ("network", model.policy)):
            if source is not None and not is_finite(source):
                raise ValueError(
                    f"there is NaN or inf in the {name}, no action can be drawn ({type(error).__name__})"
                ) from error
        raise
