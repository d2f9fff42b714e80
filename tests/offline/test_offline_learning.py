"""Learners from data alone reach what the data allow, exactly; Q-learning without constraint does not; runs go on."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import AWAC, BC, BCQ, CQL, IQL, OfflineDataset
from sb3_lecture.exact import ExactEvalCallback, ExactGrader, policy_evaluation
from sb3_lecture.exact.in_support import behaviour_policy, count_pairs, offline_grade
from sb3_lecture.exact.solver import start_value
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

LEARNERS = [AWAC, BC, BCQ, CQL, IQL]
#: networks that are tables, which learn in seconds
TABLES = {"policy_kwargs": {"net_arch": []}, "learning_rate": 0.05, "device": "cpu", "seed": 0, "gamma": 0.9}


def corridor():
    """Five cells in a row, the start in the middle, the end on the right; a step costs 1. Left leads away."""
    rows = {s: {0: [(1.0, max(s - 1, 0), -1.0, False)], 1: [(1.0, s + 1, -1.0, s == 3)]} for s in range(4)}
    rows[4] = {a: [(1.0, 4, 0.0, True)] for a in range(2)}
    return TabularEnv(TabularMDP.from_P(rows, 2))


class Mostly:
    """Plays what a list says of each state."""

    def __init__(self, *actions):
        self.actions = np.array(actions)

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return self.actions[observation], None


def limited(n=12):
    from gymnasium.wrappers import TimeLimit

    return TimeLimit(corridor(), n)


def recorded(epsilon=0.3, n=400, actions=(1, 1, 1, 1, 0)):
    return OfflineDataset.record(limited(), n, Mostly(*actions), epsilon=epsilon, seed=0)


def grade(model, data):
    return offline_grade(ExactGrader(limited(), 0.9), model, data.observations, data.actions)


def test_bc_becomes_the_behaviour_and_is_worth_what_that_is():
    """The minimum of its loss is n(s, a) / n(s), and the policy's exact value that of the empirical behaviour."""
    data, env = recorded(), make_vec_env(limited)
    model = BC("MlpPolicy", env, data, batch_size=400, **TABLES).learn(600)
    grader = ExactGrader(env, 0.9)
    counts = count_pairs(grader.mdp, data.observations, data.actions)
    with th.no_grad():
        pi = model.policy.get_distribution(th.arange(5)).distribution.probs.numpy()
    seen = counts.sum(axis=1) > 20
    np.testing.assert_allclose(pi[seen], behaviour_policy(counts)[seen], atol=0.04)  # minibatches are drawn
    exact = start_value(grader.mdp, policy_evaluation(grader.mdp, behaviour_policy(counts), 0.9))
    assert grader.grade(model, deterministic=False).value == pytest.approx(exact, abs=0.1)


def test_bc_of_the_best_episodes_is_what_these_did():
    """Four episodes of one step, of returns 1 to 4: the better half took action 1 once of two, the best took 0."""
    ends, rows = np.ones(4, bool), np.zeros(4, int)
    data = OfflineDataset(
        spaces.Discrete(1), spaces.Discrete(3), rows, np.array([2, 1, 2, 0]), np.arange(1.0, 5.0), rows, ends, ~ends
    )
    for share, expected in ((1.0, [0.25, 0.25, 0.5]), (0.5, [0.5, 0.0, 0.5]), (0.25, [1.0, 0.0, 0.0]), (0.1, [1.0, 0.0, 0.0])):
        model = BC("MlpPolicy", dataset=data, top_share=share, batch_size=64, **TABLES).learn(300)
        with th.no_grad():
            pi = model.policy.get_distribution(th.zeros(1, dtype=th.long)).distribution.probs[0].numpy()
        np.testing.assert_allclose(pi, expected, atol=0.06)


@pytest.mark.parametrize(("cls", "kwargs"), [(BCQ, {"tau": 0.2}), (CQL, {"tau": 0.2, "alpha": 0.3}),
                                             (IQL, {"tau": 0.2, "expectile": 0.95, "beta": 20.0}),
                                             (AWAC, {"tau": 0.2, "temperature": 0.1})])  # fmt: skip
def test_the_in_support_optimum_is_reached_where_the_behaviour_is_worse(cls, kwargs):
    """The behaviour turns back in cell 3 two times in three; no data show the way left from cell 2 and 1."""
    data = recorded(epsilon=0.6, actions=(1, 1, 1, 0, 0))
    result = grade(cls("MlpPolicy", make_vec_env(limited), data, batch_size=64, **TABLES | kwargs).learn(500), data)
    assert result.regret == pytest.approx(0.0, abs=1e-9)
    assert result.behaviour < result.in_support - 1.0


def test_q_learning_without_a_constraint_follows_actions_that_nobody_tried():
    """Where every step costs, what was never tried looks best, at the 0 that a table begins with: nothing corrects it."""
    data = recorded(epsilon=0.0, n=60)  # only ever to the right
    env = make_vec_env(limited)
    settings = {**TABLES, "tau": 0.2}
    fooled = CQL("MlpPolicy", env, data, alpha=0.0, batch_size=64, **settings)
    cautious = [CQL("MlpPolicy", env, data, alpha=0.3, batch_size=64, **settings), BCQ("MlpPolicy", env, data, **settings)]
    for model in (fooled, *cautious):
        with th.no_grad():
            for part in model.policy.parameters():
                part.zero_()
        model.learn(400)
    assert grade(fooled, data).regret > 5.0  # it walks away for ever: −10 against −1.9
    assert [grade(model, data).regret for model in cautious] == pytest.approx([0.0, 0.0], abs=1e-9)
    q = fooled.policy.q_values(th.arange(4))
    assert (q[2:4, 0] > q[2:4, 1] + 0.5).all()


def test_cql_says_no_more_than_its_policy_is_worth():
    """V̂(s) ≤ v_π(s) on the states of the data (theorem 3.2), exactly; without the penalty they are equal."""
    data, env = recorded(epsilon=1.0), make_vec_env(limited)
    grader, states = ExactGrader(env, 0.9), np.unique(data.observations)
    for alpha in (1.0, 0.0):
        model = CQL("MlpPolicy", env, data, alpha=alpha, batch_size=64, **TABLES | {"tau": 0.2}).learn(800)
        values = grader.grade(model).values[states]
        with th.no_grad():
            said = model.policy.predict_values(th.as_tensor(states)).numpy()
        if alpha == 0.0:
            np.testing.assert_allclose(said, values, atol=0.05)
        else:
            assert (said < values - 0.1).all()


def test_a_time_limit_is_no_end_and_an_end_is_one():
    """A step pays 1 for ever: γ = ½ makes it 2. Rows that say "end" where it was a cut make it less."""
    rows = np.zeros(20, int)
    for name, value in (("truncations", 2.0), ("terminations", 1.0)):
        ends = {"terminations": np.zeros(20, bool), "truncations": np.zeros(20, bool)}
        ends[name][:] = True
        data = OfflineDataset(spaces.Discrete(1), spaces.Discrete(1), rows, rows, np.ones(20, np.float32), rows, **ends)
        settings = TABLES | {"gamma": 0.5, "tau": 0.5}
        for model in (CQL("MlpPolicy", dataset=data, alpha=0.0, **settings), IQL("MlpPolicy", dataset=data, **settings),
                      AWAC("MlpPolicy", dataset=data, **settings)):  # fmt: skip
            model.learn(150)
            assert model.policy.predict_values(th.zeros(1, dtype=th.long)).item() == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize("cls", LEARNERS)
def test_a_run_goes_on_where_it_stopped(cls, tmp_path):
    data = recorded()

    def build():
        return cls("MlpPolicy", dataset=data, batch_size=16, **TABLES | {"policy_kwargs": {"net_arch": [8]}})

    whole = build()
    whole.learn(20)
    whole.learn(20, reset_num_timesteps=False)
    begun = build().learn(20)
    begun.save(tmp_path / "alone.zip")
    begun.save(tmp_path / "with_data.zip", include_replay=True)
    np.random.seed(5), th.manual_seed(5)
    for loaded in (cls.load(tmp_path / "with_data.zip"), cls.load(tmp_path / "alone.zip", dataset=data)):
        loaded.learn(20, reset_num_timesteps=False)
        assert loaded.num_timesteps == 40
        for a, b in zip(whole.policy.parameters(), loaded.policy.parameters(), strict=True):
            th.testing.assert_close(a, b, rtol=0, atol=0)
    alone, states = cls.load(tmp_path / "alone.zip"), np.arange(5)
    played = [model.predict(states, deterministic=True)[0].tolist() for model in (alone, begun)]
    assert played[0] == played[1]
    with pytest.raises(ValueError, match=r"saved without its data: load\(…, dataset=…\)"):
        alone.learn(1)


def test_a_run_whose_data_are_a_file_or_a_recording_goes_on_by_itself(tmp_path):
    recorded().save(tmp_path / "data.npz")
    for source in (str(tmp_path / "data.npz"), "random:100"):
        env = make_vec_env(limited)
        whole = BCQ("MlpPolicy", env, source, batch_size=16, **TABLES).learn(10)
        whole.save(tmp_path / "model.zip")
        whole.learn(10, reset_num_timesteps=False)
        loaded = BCQ.load(tmp_path / "model.zip", env=make_vec_env(limited)).learn(10, reset_num_timesteps=False)
        np.testing.assert_array_equal(whole.dataset.actions, loaded.dataset.actions)
        for a, b in zip(whole.policy.parameters(), loaded.policy.parameters(), strict=True):
            th.testing.assert_close(a, b, rtol=0, atol=0)


def test_callbacks_schedules_and_logs_run_by_gradient_steps():
    data, env = recorded(), make_vec_env(limited, 3)
    callback = ExactEvalCallback(eval_freq=10)
    rates = []
    model = BCQ("MlpPolicy", env, data, **TABLES | {"learning_rate": lambda x: rates.append(x) or 0.1 * x})
    model.learn(30, callback=callback, log_interval=10)
    assert model.num_timesteps == model._n_updates == 30
    assert [row[0] for row in callback.evaluations] == [0, 10, 20, 30]
    assert rates[-1] == pytest.approx(1 - 29 / 30)
    assert model.logger.name_to_value["train/n_updates"] in (0, 30)
    stopped = BC("MlpPolicy", dataset=data, **TABLES).learn(100, callback=lambda a, b: a["self"].num_timesteps < 7)
    assert stopped.num_timesteps == 7


def test_only_the_best_episodes_are_cloned():
    good, bad = recorded(epsilon=0.0, n=20), recorded(epsilon=0.0, n=480, actions=(0, 0, 0, 0, 0))
    both = OfflineDataset(good.observation_space, good.action_space, **{
        name: np.concatenate([getattr(bad, name), getattr(good, name)])
        for name in ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")
    })  # fmt: skip
    all_of_it, best = (BC("MlpPolicy", dataset=both, top_share=share, **TABLES).learn(200) for share in (1.0, 0.2))
    assert [model.predict(np.array([2]), deterministic=True)[0] for model in (all_of_it, best)] == [0, 1]


def test_what_does_not_fit_is_one_line(tmp_path):
    data = recorded()
    wrong = (
        (lambda: BC("MlpPolicy"), "recorded in an env|needs an env or a data set"),
        (lambda: BC("MlpPolicy", "CartPole-v1", data), "The data have the observation_space"),
        (lambda: BC("MlpPolicy", "CartPole-v1", "random:many"), "dataset='random:many' must name a number"),
        (lambda: BC("MlpPolicy", "CartPole-v1", "random:0"), "dataset=0"),
        (lambda: BC("MlpPolicy", "CartPole-v1", ""), "must be an OfflineDataset, its path"),
        (lambda: CQL("MlpPolicy", "Pendulum-v1", n_action_samples=0), "n_action_samples=0"),
        (lambda: BCQ("MlpPolicy", dataset=OfflineDataset.record("Pendulum-v1", 3)), "learns from actions of Discrete"),
        (lambda: IQL("MlpPolicy", "CartPole-v1", expectile=1.0), "expectile=1.0"),
        (lambda: BC("MlpPolicy", VecNormalize(make_vec_env("CartPole-v1"))), "normalize_observations=True"),
        (lambda: BC("MlpPolicy", "CartPole-v1", top_share=0.0), "top_share=0.0"),
    )
    for build, words in wrong:
        with pytest.raises(ValueError, match=words) as error:
            build()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="batch_size=1000000000000 does not fit into memory"):
        BC("MlpPolicy", dataset=data, batch_size=10**12).learn(1)
    with pytest.raises(FileNotFoundError, match="there is no data set"):
        BC("MlpPolicy", "CartPole-v1", str(tmp_path / "none.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.1, 0.3, 1.0])
@pytest.mark.parametrize(
    ("env_id", "kwargs", "gamma"), [("Lecture/Maze-v0", {}, 0.9), ("Lecture/GridWorld-v0", {"map": "four-rooms"}, 0.99)]
)
@pytest.mark.parametrize(
    ("cls", "own"),
    [(BCQ, {}), (CQL, {"alpha": 0.1}), (IQL, {"expectile": 0.95, "beta": 30.0}), (AWAC, {"temperature": 0.05})],
)
def test_networks_reach_the_in_support_optimum(cls, own, env_id, kwargs, gamma, epsilon):
    """From 20,000 steps of a player that is random now and then; the player itself was learned by DQN where ε < 1."""
    env = make_vec_env(env_id, env_kwargs=kwargs)
    grader = ExactGrader(env, gamma)
    best = grader.optimum.policy

    class Best:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            return best[grader.states_of(observation)], None

    data = OfflineDataset.record(env, 20_000, Best(), epsilon=epsilon, seed=1)
    model = cls("MlpPolicy", env, data, gamma=gamma, learning_rate=1e-3, seed=1, device="cpu",
                policy_kwargs={"net_arch": [64, 64]}, **own).learn(10_000)  # fmt: skip
    assert offline_grade(grader, model, data.observations, data.actions).regret == pytest.approx(0.0, abs=1e-6)


def test_sb3s_buffer_of_a_trained_model_is_data():
    model = DQN("MlpPolicy", make_vec_env(limited, 2), learning_starts=10, buffer_size=100, device="cpu", seed=0).learn(60)
    data = OfflineDataset.from_buffer(model.replay_buffer)
    assert len(data) == model.num_timesteps and BC("MlpPolicy", dataset=data, **TABLES).learn(3).num_timesteps == 3
