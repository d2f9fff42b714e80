"""Checks of arguments, spaces, numbers and scores: what passes, and the one line that says what does not."""

from typing import ClassVar

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from numpy.testing import assert_array_equal
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import NatureCNN

from sb3_lecture.common.checks import ALLOWED, Integer, Real, check_arguments, check_finite, naming_memory, naming_non_finite
from sb3_lecture.common.fitness import rank_non_finite_last
from sb3_lecture.common.optimizers import fused_adam, policy_defaults
from sb3_lecture.common.spaces import check_zero_based

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 0), ("gamma", 1.0), ("gamma", np.float32(0.5)), ("learning_rate", lambda _: 0.1),
        ("learning_rate", 0.0), ("n_steps", np.int64(3)), ("batch_size", 1), ("seed", None),
        ("seed", 2**32 - 1), ("max_grad_norm", INF), ("train_freq", (1, "episode")), ("train_freq", 4), ("unknown", "x"),
        ("gradient_steps", -1), ("exploration_fraction", 1.0),
    ],
)  # fmt: skip
def test_what_is_allowed_passes(name, value):
    check_arguments({name: value})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("gamma", NAN, "gamma=nan must be a finite number from 0 to 1"),
        ("gamma", -1, "gamma=-1 must"),
        ("gamma", 1.0000001, "gamma=1.0000001 must"),
        ("gamma", -INF, "gamma=-inf must"),
        ("learning_rate", -1e-3, "learning_rate=-0.001 must be a finite number of at least 0, or a schedule"),
        ("learning_rate", NAN, "learning_rate=nan"),
        ("learning_rate", INF, "learning_rate=inf"),
        ("n_steps", 0, "n_steps=0 must be an integer of at least 1"),
        ("ent_coef", NAN, "ent_coef=nan"),
        ("exploration_final_eps", INF, "exploration_final_eps=inf"),
        ("exploration_fraction", 0.0, "exploration_fraction=0.0 must be a finite number above 0 and at most 1"),
        ("max_grad_norm", 0.0, "max_grad_norm=0.0 must be a number above 0"),
        ("max_grad_norm", NAN, "max_grad_norm=nan"),
        ("train_freq", 0, "train_freq=0"),
        ("train_freq", (0, "step"), "train_freq=0"),
        ("seed", 2**32, "seed=4294967296 must be an integer from 0 to 4294967295, or None"),
        ("seed", -1, "seed=-1"),
    ],
)
def test_what_is_out_of_range_is_named_with_its_value_and_range(name, value, text):
    with pytest.raises(ValueError) as error:
        check_arguments({name: value})
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", "0.9"), ("gamma", None), ("gamma", True), ("batch_size", NAN), ("batch_size", 16.0), ("n_steps", True),
     ("n_steps", np.array([3])), ("n_steps", np.array(3)), ("gamma", np.array(0.5)), ("seed", np.int64(3)), 
     ("stats_window_size", np.int64(3)), ("learning_rate", np.float32(0.1)), ("learning_rate", object),
     ("policy_kwargs", []), ("tensorboard_log", 3), ("gamma", np.array([0.5, 0.5])), ("learning_rate", None)],
)  # fmt: skip
def test_another_type_is_a_type_error_that_names_it(name, value):
    with pytest.raises(TypeError, match=rf"{name}=.* (must be .*|makes no number .*)"):
        check_arguments({name: value})


def test_a_class_s_own_rules_come_first():
    check_arguments({"max_grad_norm": None, "ent_coef": "auto"}, max_grad_norm=Real(none=True), ent_coef=Real(text='"auto"'))
    with pytest.raises(ValueError, match="population_size=3 must be an integer of at least 4"):
        check_arguments({"population_size": 3}, population_size=Integer(4))
    assert set(ALLOWED) >= {"gamma", "batch_size", "learning_rate", "n_steps", "ent_coef"}


def test_a_number_that_is_not_finite_is_traced_to_its_source():
    observations, rewards = np.zeros((2, 3)), np.zeros(2)
    network = th.nn.Linear(2, 2)
    parts = {"observations": {"a": observations}, "rewards": rewards, "network": network}
    check_finite(th.tensor(1.0), "the loss", **parts)
    with pytest.raises(ValueError, match=r"the loss is nan, though .* is finite.*learning_rate"):
        check_finite(NAN, "the loss", **parts)
    with th.no_grad():
        network.bias[1] = -INF
    with pytest.raises(ValueError, match="the loss is inf: there is NaN or inf in the network"):
        check_finite(th.tensor(INF), "the loss", **parts)
    rewards[1] = NAN  # suspected before the network, which it will have spoilt
    with pytest.raises(ValueError, match="in the rewards"):
        check_finite(NAN, "the loss", **parts)
    observations[0, 2] = NAN
    with pytest.raises(ValueError, match="in the observations"):
        check_finite(NAN, "the loss", **parts)


class Acting:
    _last_obs = np.zeros(2)
    policy = th.nn.Linear(1, 1)


def test_an_error_while_acting_is_named_only_where_a_number_is_to_blame():
    model = Acting()
    with pytest.raises(RuntimeError, match="something else"), naming_non_finite(model):
        raise RuntimeError("something else")
    model._last_obs = np.array([0.0, NAN])
    with pytest.raises(ValueError, match="NaN or inf in the last observation"), naming_non_finite(model):
        raise RuntimeError("probability tensor contains nan")
    with pytest.raises(KeyError), naming_non_finite(model):
        raise KeyError("not of torch")


D1 = spaces.Discrete(3, start=1)


@pytest.mark.parametrize(
    "space",
    [D1, spaces.MultiDiscrete([2, 2], start=[0, 1]), spaces.Dict({"a": spaces.Discrete(2), "b": D1}), spaces.Tuple([D1])],
    ids=str,
)
def test_spaces_that_do_not_begin_with_0_are_refused_with_the_wrapper_that_mends_them(space):
    plain = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.MultiDiscrete([2, 3]), "c": spaces.Box(1, 2, (2,))})
    check_zero_based(plain, plain)
    with pytest.raises(ValueError, match=r"observation space .*TransformObservation"):
        check_zero_based(space, plain)
    with pytest.raises(ValueError, match=r"action space .*TransformAction"):
        check_zero_based(plain, space)


def test_scores_that_are_not_finite_rank_last_whatever_their_sign():
    ranked, count = rank_non_finite_last(np.array([1.0, NAN, -5.0, INF, -INF]))
    assert_array_equal(ranked, [1.0, -INF, -5.0, -INF, -INF])
    assert count == 3
    with pytest.raises(ValueError, match="all 2 candidates"):
        rank_non_finite_last(np.array([NAN, INF]))


class Network(BasePolicy):
    def __init__(self, net_arch: list[int] | None = None, optimizer_class=th.optim.Adam, features_extractor_class=NatureCNN):
        raise NotImplementedError


class Parts(BasePolicy):
    def __init__(self, net_arch: list[int] | dict[str, list[int]] | None = None, **kwargs):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("policy", "given", "words"),
    [
        (Network, {"net_arch": 64}, r"net_arch=64 must be a list of widths"),
        (Network, {"net_arch": [64, 0]}, r"net_arch=\[64, 0\]: number 1=0 must be an integer of at least 1"),
        (Network, {"net_arch": {"pi": [64]}}, r"net_arch=\{'pi': \[64\]\} must be a list of widths such as \[64, 64\]$"),
        (Parts, {"net_arch": {"pi": [64], "v": [64]}}, r'or of parts \{"pi"'),
        (Parts, {"net_arch": {"pi": 64}}, r"must be a list of widths"),
        (Network, {"activation_fn": "relu"}, r"activation_fn='relu' must be a class that inherits from Module"),
        (Network, {"features_extractor_class": th.nn.Flatten}, r"inherits from BaseFeaturesExtractor"),
        (
            Network,
            {"features_extractor_kwargs": {"width": 3}},
            r"'width' is no argument; choose features_dim, ",
        ),
        (Network, {"features_extractor_kwargs": {"features_dim": 0}}, r"features_dim=0 must be"),
        (Network, {"optimizer_class": Network}, r"must be a class that inherits from Optimizer"),
        (Network, {"optimizer_kwargs": {"lr": 0.1}}, r"lr is given by the model's argument learning_rate"),
        (Network, {"optimizer_kwargs": {"betas": 3}}, r"optimizer_kwargs=\{'betas': 3\} do not suit Adam: "),
        (Network, {"optimizer_kwargs": {"eps": NAN}}, r"optimizer_kwargs=\{'eps': nan\} do not suit Adam: "),
        (Network, {"optimizer_class": th.optim.SGD, "optimizer_kwargs": {"betas": (0, 0)}}, r"do not suit SGD: .*betas"),
        (Parts, {"squash_output": True}, r"squash_output=True needs use_sde=True"),
        (Parts, {"normalize_images": "yes"}, r"normalize_images='yes' is unknown: choose False or True"),
    ],
)
def test_what_policy_kwargs_hold_is_checked_too(policy, given, words):
    with pytest.raises((ValueError, TypeError), match=words) as error:
        check_arguments({"policy": policy, "policy_kwargs": given, "use_sde": False})
    assert "\n" not in str(error.value)


def test_policy_kwargs_that_suit_pass():
    for policy, given in (
        (Parts, {"net_arch": {"pi": [64], "vf": []}, "squash_output": False, "of_its_own": object()}),
        (Network, {"net_arch": (8, np.int64(4)), "optimizer_kwargs": {"eps": 1e-5}, "activation_fn": th.nn.Tanh}),
        (Network, {"features_extractor_kwargs": {"features_dim": 8}, "optimizer_class": th.optim.SGD}),
        ("NoName", {"net_arch": [4]}),
    ):
        check_arguments({"policy": policy, "policy_kwargs": given, "use_sde": False})
    check_arguments({"policy": Parts, "policy_kwargs": {"squash_output": True}, "use_sde": True})


def test_what_torch_has_no_memory_for_is_named():
    class Wide:
        policy_kwargs: ClassVar = {"net_arch": [10**12]}

        @naming_memory("buffer_size")
        def build(self):
            th.nn.Linear(10**12, 4)

        @naming_memory("buffer_size")
        def fail(self):
            raise RuntimeError("something else")

    with pytest.raises(ValueError, match=r"policy_kwargs=\{'net_arch': \[1000000000000\]\} does not fit into memory"):
        Wide().build()
    with pytest.raises(RuntimeError, match="something else"):
        Wide().fail()


class Building:
    def __init__(self, **policy_kwargs):
        self.policy_kwargs = policy_kwargs


def test_policy_defaults_yield_to_what_is_given_and_leave_it_as_it_was():
    model = Building(net_arch=[3])
    with policy_defaults(model, net_arch=[], limit=1.0):
        assert model.policy_kwargs == {"limit": 1.0, "net_arch": [3]}
    assert model.policy_kwargs == {"net_arch": [3]}
    with pytest.raises(KeyError), policy_defaults(model, limit=1.0):
        raise KeyError
    assert model.policy_kwargs == {"net_arch": [3]}


def test_adam_is_fused_unless_an_optimizer_or_its_arguments_are_named():
    for given, kwargs in (
        ({}, {"fused": True, "eps": 1e-5}),
        ({"optimizer_class": th.optim.SGD}, None),
        ({"optimizer_kwargs": {"betas": (0.0, 0.9)}}, {"betas": (0.0, 0.9)}),
    ):
        model = Building(**given)
        with fused_adam(model, eps=1e-5):
            assert model.policy_kwargs.get("optimizer_kwargs") == kwargs
