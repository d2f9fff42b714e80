"""Nonsense in the constructors of every class of ours: one line that names the argument, or a model that learns.

``FUZZ_EXAMPLES=5000 pytest tests/test_fuzz_arguments.py`` searches longer, from another seed each time.
"""

import inspect
import math
import os
import signal
import types
import typing
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_util import make_vec_env
from test_contract import OURS, build_settings, policy_of, world

from sb3_lecture.common.checks import is_finite, keywords_of
from sb3_lecture.search.mcts import SEARCH_SETTINGS
from sb3_lecture.tabular import base
from sb3_lecture.tabular.loop import Loops, compile_rules
from sb3_lecture.zoo import registry

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))
NAN, INF = math.nan, math.inf
HUGE = [10**12, 10**30]
#: what is no number, text or flag, or where its range ends
VALUES = [None, True, False, -1, 0, 1, 2, 3, -0.5, 0.0, 0.5, 1.0, 1.5, 1e300, NAN, INF, -INF, *HUGE, -(10**12),
          "", "0.9", "auto", "nope", "1/N", [], [1], {}, (1, "step"), np.float32(0.5), np.int64(2), np.nan, np.array(1),
          np.array([1, 2]), b"x", object]  # fmt: skip
#: what stands in lists and dictionaries
NESTED = [[[]], [-1], [0], [8], [10**12], ["a"], {"pi": [4]}, {"lr": 1}, {"eps": NAN}, {"betas": 3}, {"features_dim": 0},
          int, "relu"]  # fmt: skip
NOT_SCALARS = {"policy", "env", "self", "kwargs", "policy_kwargs", "tensorboard_log", "_init_setup_model"}
NEGATIVE = {
    "gradient_steps", "initial_value", "sde_sample_freq", "target_entropy", "munchausen_clip", "v_min", "v_max",
}  # fmt: skip
INFINITE = {"max_grad_norm"}
SAID = {"use_sde": "gSDE"}  # what SB3 calls it


def annotations(cls):
    """The annotation of each argument that is a number, a flag or a text, or may be None in its place."""
    found = {}
    for parent in cls.__mro__:
        if "__init__" not in vars(parent) or not parent.__module__.startswith("sb3_lecture"):
            continue
        parameters = inspect.signature(vars(parent)["__init__"]).parameters
        found = {name: p.annotation for name, p in parameters.items() if p.annotation is not typing.Any} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    scalars = {name: kinds(annotation) for name, annotation in found.items() if name not in NOT_SCALARS}
    return {name: kind for name, kind in scalars.items() if kind & {int, float, bool, str}}


def kinds(annotation):
    """The types that an annotation allows; of Literal those of its values."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return set().union(*map(kinds, typing.get_args(annotation)))
    if origin is typing.Literal:
        return {type(value) for value in typing.get_args(annotation)}
    return {origin or annotation}


def must_be_refused(name, value, allowed):
    """Whether a value is nonsense by its kind alone, or because it is NaN, infinite or below 0."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return type(None) not in allowed
    if isinstance(value, bool):
        return bool not in allowed
    if isinstance(value, (int, float)):
        number = not math.isnan(value) and (not math.isinf(value) or (name in INFINITE and value > 0))
        whole = float in allowed or (int in allowed and isinstance(value, int))
        return not (number and whole and (value >= 0 or name in NEGATIVE))
    return not any(isinstance(kind, type) and isinstance(value, kind) for kind in allowed)


@contextmanager
def limit(seconds, what):
    """No hang."""

    def stop(*_):
        raise TimeoutError(what)

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(name, arguments):
    """Build a model and let it learn for a moment; complain of all but one clear error or success."""
    cls = registry.algorithm(name)
    allowed = annotations(cls)
    env = make_vec_env(world(name)[0], env_kwargs=world(name)[1])
    what = f"{cls.__name__}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
    with limit(60, what):
        try:
            model = cls(policy_of(name), env, **(build_settings(name) | arguments))
        except (ValueError, TypeError) as error:
            said = any(word in str(error) for key in arguments for word in (key, SAID.get(key, key)))
            assert said and "\n" not in str(error), f"{what}: {error!r}"
            return
        bad = [key for key, value in arguments.items() if must_be_refused(key, value, allowed[key])]
        assert not bad, f"{what} is accepted"
        if arguments.get("compile") is True or any(value in HUGE for value in arguments.values() if type(value) is int):
            return  # takes the time that was asked for
        try:
            model.learn(60)
        except ValueError as error:
            assert "\n" not in str(error), f"{what}.learn: {error!r}"
        else:
            assert is_finite(model.policy), f"{what} learns NaN without a word"


def names_within(cls, policy):
    """Argument and name of what may be handed on to the policy, and to the search."""
    known = [("policy_kwargs", name) for name in [*keywords_of(cls.policy_aliases[policy]), "unheard_of"]]
    if "search_kwargs" in keywords_of(cls):
        known += [("search_kwargs", name) for name in [*SEARCH_SETTINGS, "unheard_of"]]
    return known


def outcome_within(name, argument, key, value):
    """As ``outcome``, for a value that is handed on to the policy or to the search."""
    cls, settings = registry.algorithm(name), build_settings(name)
    env = make_vec_env(world(name)[0], env_kwargs=world(name)[1])
    settings[argument] = settings.get(argument, {}) | {key: value}
    what = f"{cls.__name__}({argument}={settings[argument]!r})"
    with limit(60, what):
        try:
            model = cls(policy_of(name), env, **settings)
        except (ValueError, TypeError) as error:
            assert key in str(error) and "\n" not in str(error), f"{what}: {error!r}"
            return
        assert key != "unheard_of", f"{what} is accepted"
        try:
            model.learn(60)
        except ValueError as error:
            assert "\n" not in str(error), f"{what}.learn: {error!r}"
        else:
            assert is_finite(model.policy), f"{what} learns NaN without a word"


@pytest.fixture
def quiet(monkeypatch, tmp_path):
    """Tables learn as plain Python, which compiles nothing; overflow is asked for; logs go to their own folder."""
    monkeypatch.setattr(base, "compile_rules", lambda *rules: Loops(*(loop.py_func for loop in compile_rules(*rules))))
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@settings(
    max_examples=EXAMPLES or 80, derandomize=not EXAMPLES, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(data=st.data())
def test_any_arguments_make_a_model_that_learns_or_one_clear_error(quiet, data):
    name = data.draw(st.sampled_from(OURS))
    known = annotations(registry.algorithm(name))
    outcome(name, data.draw(st.dictionaries(st.sampled_from(sorted(known)), st.sampled_from(VALUES), min_size=1, max_size=2)))


@settings(
    max_examples=EXAMPLES or 80, derandomize=not EXAMPLES, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(data=st.data())
def test_any_arguments_of_policy_or_search_make_a_model_that_learns_or_one_clear_error(quiet, data):
    name = data.draw(st.sampled_from(OURS))
    argument, key = data.draw(st.sampled_from(names_within(registry.algorithm(name), policy_of(name))))
    outcome_within(name, argument, key, data.draw(st.sampled_from(VALUES + NESTED)))
