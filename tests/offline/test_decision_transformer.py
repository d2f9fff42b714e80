"""Decision Transformer: what it sees and what not, what it remembers, what one gets for what one asks, where it fails."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture import IQL, DecisionTransformer, OfflineDataset
from sb3_lecture.exact import ExactGrader
from sb3_lecture.exact.in_support import offline_grade
from sb3_lecture.offline.decision_transformer import returns_to_go
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

SMALL = {"context_length": 4, "width": 16, "n_layers": 2, "n_heads": 2, "net_arch": [16], "max_timestep": 9}


def test_returns_to_go_by_hand():
    rewards, ends = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([False, False, True, False, True])
    assert returns_to_go(rewards, ends, 1.0).tolist() == [7, 6, 4, 24, 16]
    assert returns_to_go(rewards, ends, 0.5).tolist() == [1 + 1 + 1, 2 + 2, 4, 8 + 8, 16]


class Sum(gym.Env):
    """Six steps, of which each pays its action."""

    observation_space, action_space = spaces.Discrete(7), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += 1
        return self.t, float(action), self.t == 6, False, {}


def random_policy(action_space=None, observation_space=None, **more):
    """A transformer with weights by chance, none of them 0."""
    observation_space = observation_space or spaces.Box(-1, 1, (3,))
    action_space = action_space or spaces.Discrete(3)
    n, rng = 8, np.random.default_rng(0)
    rows = np.stack([observation_space.sample() for _ in range(n)])
    if isinstance(action_space, spaces.Discrete):
        actions = rng.integers(action_space.n, size=n)
    else:
        actions = np.stack([action_space.sample() for _ in range(n)])
    data = OfflineDataset(observation_space, action_space, rows, actions, np.ones(n, np.float32), rows,
                          np.arange(n) == n - 1, np.zeros(n, bool))  # fmt: skip
    model = DecisionTransformer("MlpPolicy", dataset=data, policy_kwargs=SMALL | more, device="cpu", seed=1, batch_size=8)
    model.learn(1)
    return model


def test_an_action_is_foretold_from_all_before_it_and_nothing_behind():
    policy = random_policy().policy
    rng = np.random.default_rng(0)
    parts = [
        th.as_tensor(rng.normal(size=(1, 4)), dtype=th.float32), th.as_tensor(rng.normal(size=(1, 4, 3)), dtype=th.float32),
        th.as_tensor(rng.integers(3, size=(1, 4))), th.arange(4)[None],
    ]  # fmt: skip
    with th.no_grad():
        before = policy(*parts)[0]
        for k, first in ((0, 2), (1, 2), (2, 3)):  # R̂_2 and s_2 are seen at 2, a_2 only at 3
            changed = [part.clone() for part in parts]
            changed[k][0, 2] = 1.0 if k < 2 else (parts[2][0, 2] + 1) % 3
            moved = (policy(*changed)[0] - before).abs().amax(dim=1) > 1e-6
            assert moved.tolist() == [t >= first for t in range(4)], k
        moved = (policy(*parts[:3], parts[3] + 1)[0] - before).abs().amax(dim=1) > 1e-6
        assert moved.all()  # the time is seen


@pytest.mark.parametrize("action_space", [spaces.Discrete(3), spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))])
def test_predict_remembers_what_forward_would_be_shown(action_space):
    """Seven steps of three rows, one of which begins anew at step 2: the last four are seen, with returns less rewards."""
    model = random_policy(action_space)
    policy, rng = model.policy, np.random.default_rng(1)
    model.gamma = 0.5
    policy.gamma.fill_(0.5)
    policy.return_scale.fill_(4.0)
    model.ask(2.0)
    histories, state = [[], [], []], None
    for t in range(7):
        observations = rng.normal(size=(3, 3)).astype(np.float32)
        start = np.array([t == 0, t in (0, 2), t == 0])
        given = state
        action, state = model.predict(observations, state, start, deterministic=True)
        again, _ = model.predict(observations, given, start, deterministic=True)  # the memory given was not written into
        np.testing.assert_array_equal(action, again)
        for row in range(3):
            history = histories[row]
            if start[row]:
                history.clear()
            with th.no_grad():
                scaled = policy.scaled(th.as_tensor(action[row : row + 1]))
                to_go = th.tensor(2.0)
                if history:
                    last = history[-1]
                    reward = 4.0 * policy.foretell(last["s"], last["a"], th.as_tensor(observations[row : row + 1]))[0]
                    to_go = (last["R"] - reward) / 0.5
                history.append({"R": to_go, "s": th.as_tensor(observations[row : row + 1]), "a": scaled, "t": len(history)})
                seen = history[-4:]
                outputs = policy(
                    th.stack([part["R"] for part in seen])[None], th.cat([part["s"] for part in seen])[None],
                    th.cat([part["a"] for part in seen])[None], th.tensor([[part["t"] for part in seen]]),
                )[0, -1]  # fmt: skip
            if isinstance(action_space, spaces.Discrete):
                assert action[row] == outputs.argmax().item()
            else:
                expected = policy.unscale_action(th.tanh(outputs).numpy())
                np.testing.assert_allclose(action[row], expected, atol=1e-5)


def test_chance_is_the_distribution_of_the_logits():
    policy = random_policy().policy
    observation = np.tile(np.float32([0.2, -0.1, 0.4]), (4000, 1))
    th.manual_seed(0)
    drawn, _ = policy.predict(observation)
    with th.no_grad():
        pi = policy(policy.target_return[None, None], th.as_tensor(observation[:1])[None], th.zeros(1, 1, dtype=th.long),
                    th.zeros(1, 1, dtype=th.long))[0, 0].softmax(dim=0)  # fmt: skip
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, pi, atol=0.03)


def test_the_loss_is_of_the_steps_inside_the_episodes():
    """Untrained weights: the mean over all windows, by a second writing, over windows that reach behind an end."""
    model = random_policy()
    policy, data = model.policy, model.dataset
    np.random.seed(3)
    starts = np.random.randint(8, size=8)
    np.random.seed(3)
    total, count, squares = 0.0, 0, 0.0
    with th.no_grad():
        for start in starts:
            stop = min(start + 4, 8)
            to_go = th.arange(8.0, 0.0, -1.0)[start:stop]
            inputs, actions = th.as_tensor(data.observations[start:stop]), th.as_tensor(data.actions[start:stop])
            log_prob = policy(to_go[None], inputs[None], actions[None], th.arange(start, stop)[None])[0].log_softmax(dim=1)
            total -= log_prob[th.arange(stop - start), actions].sum().item()
            squares += (policy.foretell(inputs, actions, inputs) - 1 / 8).square().sum().item()
            count += stop - start
    figures = model._gradient_step(data)
    assert float(figures["action_loss"]) == pytest.approx(total / count, rel=1e-5)
    assert float(figures["reward_loss"]) == pytest.approx(squares / count, rel=1e-4)


@pytest.mark.slow
def test_one_gets_what_one_asks_for():
    """Random data of six steps that pay 0 or 1: asked for k, the transformer gets k, for every k."""
    env = DummyVecEnv([Sum])
    data = OfflineDataset.record(env, 3000, seed=0)
    model = DecisionTransformer(
        "MlpPolicy", env, data, learning_rate=3e-3, seed=0, device="cpu",
        policy_kwargs={"context_length": 6, "width": 32, "n_layers": 1, "net_arch": [32]},
    ).learn(500)  # fmt: skip
    got = []
    for asked in range(7):
        model.ask(asked)
        got.append(evaluate_policy(model, env, 1, warn=False)[0])
    assert got == list(range(7))


def stitching():
    """States: A, B, fork, end. From A: 0 ends with ½, 1 leads to the fork; from B to the fork. There 0 pays 0 and 1 pays 1."""
    rows = {
        0: {0: [(1.0, 3, 0.5, True)], 1: [(1.0, 2, 0.0, False)]},
        1: {0: [(1.0, 2, 0.0, False)], 1: [(1.0, 2, 0.0, False)]},
        2: {0: [(1.0, 3, 0.0, True)], 1: [(1.0, 3, 1.0, True)]},
        3: {a: [(1.0, 3, 0.0, True)] for a in range(2)},
    }
    s, a, r, s2, end = zip(*[(0, 0, 0.5, 3, 1)] * 50, *[(0, 1, 0.0, 2, 0), (2, 0, 0.0, 3, 1)] * 50,
                           *[(1, 0, 0.0, 2, 0), (2, 1, 1.0, 3, 1)] * 50, strict=True)  # fmt: skip
    env = TabularEnv(TabularMDP.from_P(rows, 0))
    ends = np.array(end, bool)
    data = OfflineDataset(env.observation_space, env.action_space, np.array(s), np.array(a), np.array(r, np.float32),
                          np.array(s2), ends, np.zeros(len(ends), bool))  # fmt: skip
    return env, data


def test_it_does_not_stitch_where_iql_does():
    """The data hold every step of the way that pays 1 from A, and no trajectory from A got more than ½."""
    env, data = stitching()
    small = {"context_length": 3, "width": 32, "n_layers": 1, "net_arch": [32]}
    model = DecisionTransformer("MlpPolicy", DummyVecEnv([lambda: env]), data, policy_kwargs=small, device="cpu", seed=0)
    model.learn(300)
    assert model.target_return == 1.0  # the best in the data, from B
    assert evaluate_policy(model, model.get_env(), 1, warn=False)[0] == 0.5
    iql = IQL("MlpPolicy", DummyVecEnv([lambda: env]), data, gamma=0.9, expectile=0.95, beta=20.0, tau=0.2, seed=0,
              learning_rate=0.05, policy_kwargs={"net_arch": []}, device="cpu").learn(400)  # fmt: skip
    grade = offline_grade(ExactGrader(DummyVecEnv([lambda: env]), 0.9), iql, data.observations, data.actions)
    assert grade.in_support == pytest.approx(0.9) and grade.regret == pytest.approx(0.0, abs=1e-9)


def test_a_memory_is_no_state_for_exact_grading():
    env, data = stitching()
    model = DecisionTransformer("MlpPolicy", DummyVecEnv([lambda: env]), data, policy_kwargs=SMALL, device="cpu").learn(1)
    with pytest.raises(ValueError, match="recurrent policy"):
        ExactGrader(model.get_env(), 1.0).grade(model)


def test_a_run_goes_on_where_it_stopped_and_knows_what_was_asked(tmp_path):
    whole = random_policy()
    whole.learn(5, reset_num_timesteps=False)
    whole.ask(3.5)
    whole.save(tmp_path / "model.zip", include_replay=True)
    whole.learn(5, reset_num_timesteps=False)
    th.manual_seed(5), np.random.seed(5)
    loaded = DecisionTransformer.load(tmp_path / "model.zip")
    assert loaded.policy.target_return.item() == 3.5 and loaded.policy.return_scale.item() == 8.0
    loaded.learn(5, reset_num_timesteps=False)
    for a, b in zip(whole.policy.parameters(), loaded.policy.parameters(), strict=True):
        th.testing.assert_close(a, b, rtol=0, atol=0)


def test_what_does_not_fit_is_one_line():
    for settings, words in (
        ({"gamma": 0.0}, "gamma=0.0"), ({"target_return": np.inf}, "target_return=inf"),
        ({"policy_kwargs": {"width": 10, "n_heads": 4}}, "n_heads=4 must divide width=10"),
        ({"policy_kwargs": {"context_length": 0}}, "context_length=0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            DecisionTransformer("MlpPolicy", "CartPole-v1", **settings)
