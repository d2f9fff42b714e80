"""Every kind of observation and action space that Gymnasium has, over every class of ours: it learns, or one clear error."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from test_contract import OURS, build_settings, policy_of, tables_are_slow
from test_fuzz_arguments import quiet  # noqa: F401

from sb3_lecture.zoo import registry

BOX, TWO = spaces.Box(-1.0, 1.0, (2,), np.float64), spaces.Discrete(2)
OBSERVATIONS = [
    spaces.Discrete(3), spaces.Discrete(3, start=2), spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([[2, 3], [2, 2]]),
    spaces.MultiBinary(3), spaces.MultiBinary([2, 2]), spaces.Box(0, 5, (2,), np.int64), spaces.Box(0, 255, (2,), np.uint8),
    spaces.Box(0, 1, ()), spaces.Box(0, 1, (0,)), spaces.Box(-np.inf, np.inf, (2,)), BOX,
    spaces.Dict(a=spaces.Box(0, 1, (2,)), b=spaces.Discrete(2)), spaces.Dict(a=spaces.Dict(b=spaces.Discrete(2))),
    spaces.Tuple([spaces.Discrete(2), BOX]), spaces.Text(3), spaces.Sequence(TWO), spaces.Graph(TWO, None),
]  # fmt: skip
ACTIONS = [
    spaces.Discrete(1), spaces.Discrete(2, start=-1), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2),
    spaces.Box(0, 3, (2,), np.int64), BOX, spaces.Box(-1, 1, (2, 2)), spaces.Box(-1, 1, ()), spaces.Box(-np.inf, np.inf, (1,)),
    spaces.Box(0, np.inf, (1,)), spaces.MultiDiscrete([[2, 2], [2, 2]]), spaces.MultiBinary([2, 2]),
    spaces.Dict(a=TWO), spaces.Tuple([TWO, TWO]), spaces.Text(3),
]  # fmt: skip


#: what else an error may be about: no law of the world, no policy for a Dict, no bounds to lay tiles in, exp of unscaled bytes
OTHERWISE = ["needs the world's law", "states no rules", "MultiInputPolicy", "have no finite range", "numbers grew too large"]


class Any(gym.Env):
    """Four steps of chance."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype)[()]), action
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == 4, False, {}


def pairs(name):
    """Every observation space with two actions, every action space with what the class can look at."""
    seen = TWO if ".tabular." in registry.target(name) else BOX
    return [*((space, TWO) for space in OBSERVATIONS), *((seen, space) for space in ACTIONS)]


@pytest.mark.parametrize("name", [tables_are_slow(name) for name in OURS])
def test_any_spaces_are_learned_in_or_refused_in_one_line(quiet, name):  # noqa: F811
    cls = registry.algorithm(name)
    for observation_space, action_space in pairs(name):
        policy = "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "MlpPolicy"
        policy = policy if policy in cls.policy_aliases else "MlpPolicy"
        settings = build_settings(name)
        if policy != policy_of(name) and "size" not in settings.get("policy_kwargs", {}):
            settings.pop("policy_kwargs", None)
        where = f"{cls.__name__} on {observation_space}, {action_space}"
        observation_space.seed(0)
        try:
            model = cls(policy, Any(observation_space, action_space), seed=0, **settings).learn(20)
        except ValueError as error:
            assert "\n" not in str(error), where
            named = [" ".join(str(space).split()) for space in (observation_space, action_space)]
            assert any(words in str(error) for words in (*named, *OTHERWISE)), f"{where}: {error}"
            continue
        action, _ = model.predict(observation_space.sample(), deterministic=True)
        assert action_space.contains(np.asarray(action, action_space.dtype)[()]), f"{where} plays {action!r}"
