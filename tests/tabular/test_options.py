"""Options: models by hand, planning that leaps, the optimum over options, and both rules on worked transitions."""

import gymnasium as gym
import numpy as np
import pytest
from worked import CUT, END, GO, learn, make

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import OptionQLearning
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.exact.options import (
    Options,
    hallway_options,
    make_options,
    option_models,
    option_values,
    plan,
    primitive_options,
)
from sb3_lecture.exact.solver import policy_evaluation, value_iteration
from sb3_lecture.tabular import option_q_learning as rules
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

FOUR_ROOMS = gym.make("Lecture/GridWorld-v0", map="four-rooms").unwrapped.mdp
TWO_ROOMS = gym.make("Lecture/GridWorld-v0", map=["...#...", "......G", "...#..."], slip=0.1).unwrapped.mdp
#: 0 → 1 → 2 → 3, each step pays 1, the last one ends; action 1 stays and pays 0
CHAIN = TabularMDP.from_P(
    {s: {0: [(1.0, s + 1, 1.0, s == 2)], 1: [(1.0, s, 0.0, False)]} for s in range(3)}
    | {3: {a: [(1.0, 3, 0.0, True)] for a in (0, 1)}},
    0,
)
#: "on until 2", which may begin in 0 and 1, and "on, and stop in 1 by a coin", which may begin everywhere
LASTING = ([[0, 0, -1, -1], [0, 0, 0, 0]], [[0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.0, 1.0]])


def test_models_by_hand():
    rewards, models = option_models(CHAIN, Options(*map(np.array, LASTING)), 0.5)
    np.testing.assert_allclose(rewards[0], [1 + 0.5, 1, -np.inf, -np.inf])
    np.testing.assert_allclose(models[0], [[0, 0, 0.25, 0], [0, 0, 0.5, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    # from 2 it ends the episode, so nothing follows; in 1 it stops half of the time
    np.testing.assert_allclose(rewards[1], [1 + 0.5 * 0.5 * (1 + 0.5), 1 + 0.5, 1, 0])
    np.testing.assert_allclose(models[1], [[0, 0.25, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("seed", range(4))
def test_leaving_an_option_for_a_better_one_is_no_worse(seed):
    """The paper's theorem on interruption, exactly: the policy of ``predict`` against options followed to their ends."""
    rng = np.random.default_rng(seed)
    law = {
        s: {a: [(p, s2, rng.normal(), rng.random() < 0.1) for s2, p in enumerate(rng.dirichlet(np.ones(6)))] for a in range(3)}
        for s in range(6)
    }
    mdp = TabularMDP.from_P(law, 0)
    options = make_options(rng.integers(0, 3, (4, 6)), rng.random((4, 6)), 6, 3)
    q = option_values(mdp, options, 0.9)
    actions = options.policy[q.argmax(axis=1), np.arange(6)]
    v = policy_evaluation(mdp, actions, 0.9)
    assert (v >= q.max(axis=1) - 1e-9).all() and (v > q.max(axis=1) + 1e-3).any()


@pytest.mark.parametrize("mdp", [CHAIN, TWO_ROOMS, FOUR_ROOMS], ids=["chain", "two rooms", "four rooms"])
def test_with_every_action_among_the_options_nothing_is_lost(mdp):
    v = value_iteration(mdp, 0.9).v
    basic = primitive_options(mdp.n_states, mdp.n_actions)
    np.testing.assert_allclose(option_values(mdp, basic, 0.9).max(axis=1), v, atol=1e-9)
    both = hallway_options(mdp).join(basic)
    np.testing.assert_allclose(option_values(mdp, both, 0.9).max(axis=1), v, atol=1e-9)


def test_the_four_rooms_have_eight_ways_to_their_hallways():
    """Each way is a shortest one: an option pays nothing, and leads to its hallway with γ^steps."""
    options = hallway_options(FOUR_ROOMS)
    assert len(options.policy) == 8
    doors = {int(s) for s in np.flatnonzero((options.termination == 1).sum(axis=0) == 8)} - {FOUR_ROOMS.n_states - 1}
    assert len(doors) == 4  # a room's cells are where two options go on; hallways end all of them
    _, models = option_models(FOUR_ROOMS, options, 0.5)
    for o, policy in enumerate(options.policy):
        (door,) = {int(np.flatnonzero(models[o, s])[0]) for s in np.flatnonzero(policy >= 0) if models[o, s].any()}
        assert door in doors
        for s in np.flatnonzero(policy >= 0):
            steps, at = 0, int(s)
            while at != door and steps < 30:
                ((_, at, _, _),) = FOUR_ROOMS.outcomes(at, policy[at])
                steps += 1
            assert models[o, s, door] == pytest.approx(0.5**steps if steps < 30 else 0.0)


def test_planning_with_options_leaps():
    """After k sweeps over actions just what lies within k steps of the goal has a value; options carry it through rooms."""
    basic, v = primitive_options(FOUR_ROOMS.n_states, 4), value_iteration(FOUR_ROOMS, 0.9).v
    steps = np.where(v > 0, np.round(np.log(np.maximum(v, 1e-9)) / np.log(0.9)) + 1, np.inf)  # to the goal
    sweeps = plan(FOUR_ROOMS, basic, 0.9, 8)
    for k in range(9):
        np.testing.assert_array_equal(sweeps[k] > 0, steps <= k)
    leaps = plan(FOUR_ROOMS, hallway_options(FOUR_ROOMS).join(basic), 0.9, 8)
    assert ((leaps[8] > 0).sum(), (sweeps[8] > 0).sum()) == (103, 29)  # all but the goal itself
    assert (leaps >= sweeps - 1e-12).all()


def test_q_learning_from_an_options_end_by_hand(plain):
    """ "On until 2" from 0 with α = γ = ½: R = 1 + ½ · 1, γ² max Q(2, ·) = ¼ · 8; state 1 on its way learns 1 + ½ · 8."""
    model, agent = make(OptionQLearning, options=LASTING, intra_option=False)
    q = agent.q  # columns: the two options, then the actions
    q[2], q[0], q[1, 0] = [99, 4, 8, 2], [2, 0, 0, 1], 1.0  # the first option may not begin in 2, so its 99 is not looked at
    assert rules.act(agent, 0, 0) == 0 and agent.memory.option[0] == 0
    learn(model, agent, (0, 0, 1, 1, GO))
    assert q[0, 0] == 2 and agent.memory.option[0] == 0  # it goes on
    assert rules.act(agent, 0, 1) == 0
    learn(model, agent, (1, 0, 1, 2, GO))
    assert agent.memory.option[0] == -1
    np.testing.assert_allclose(q[:2, 0], [2 + 0.5 * (1 + 0.5 * (1 + 0.5 * 8) - 2), 1 + 0.5 * (1 + 0.5 * 8 - 1)])
    agent.memory.option[0], agent.memory.taken[0] = 0, 0
    learn(model, agent, (1, 0, 3, 0, END))
    assert q[1, 0] == 3 + 0.5 * (3 - 3)
    agent.memory.option[0], agent.memory.taken[0] = 0, 0
    q[0, 0], before = 6.0, q[1, 0]
    learn(model, agent, (1, 0, 3, 0, CUT))  # a time limit in a state where it would have gone on: U(0, o) = Q(0, o)
    assert q[1, 0] == before + 0.5 * (3 + 0.5 * 6 - before)


def test_intra_option_learning_by_hand(plain):
    """One step 0 → 1 by action 0 teaches all three options that do 0 in 0; U(1, o) mixes going on and ending by β."""
    model, agent = make(OptionQLearning, options=LASTING)
    q = agent.q
    q[1] = [2, 4, 6, 8]
    learn_from = (0, 0, 1, 1, GO)
    agent.memory.option[0] = 0
    learn(model, agent, learn_from)
    np.testing.assert_allclose(q[0], [0.5 * (1 + 0.5 * 2), 0.5 * (1 + 0.5 * (0.5 * 4 + 0.5 * 8)), 0.5 * (1 + 0.5 * 8), 0])
    assert agent.memory.option[0] == 0
    learn(model, agent, (1, 1, 3, 2, END))  # action 1: no option but the action itself, and nothing follows
    np.testing.assert_allclose(q[1], [2, 4, 6, 8 + 0.5 * (3 - 8)])
    assert agent.memory.option[0] == -1


def test_a_new_option_is_the_best_that_may_begin(plain):
    model, agent = make(OptionQLearning, options=LASTING)
    agent.q[:] = [9, 1, 2, 3]
    assert rules.choose_option(agent, 0) == 0 and rules.choose_option(agent, 2) == 3
    agent.epsilon[0] = 1.0
    drawn = np.bincount([rules.choose_option(agent, 2) for _ in range(3000)], minlength=4) / 3000
    np.testing.assert_allclose(drawn, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.04)
    model.policy.epsilon[0] = 0.3
    np.testing.assert_allclose(model.action_probabilities([2]), [[0.2, 0.8]])  # 1/3 of 0.3 for each; the best takes the rest
    assert model.predict([0, 2], deterministic=True)[0].tolist() == [0, 1]


@pytest.mark.parametrize("intra_option", [True, False])
def test_both_rules_find_the_values_of_following_options_to_their_ends(intra_option):
    mdp = TabularMDP.from_P(gym.make("Lecture/GridWorld-v0", map=["...#...", "......G", "...#..."]).unwrapped.mdp.P,
                            TWO_ROOMS.start)  # fmt: skip
    model = OptionQLearning(
        env=TabularEnv(mdp), gamma=0.9, learning_rate=1.0, exploration_initial_eps=1.0, exploration_final_eps=1.0,
        intra_option=intra_option, seed=0,
    ).learn(60_000)  # fmt: skip
    exact = option_values(mdp, model.option_set, 0.9)
    tried = model.policy.updates.numpy() > 3
    assert tried.sum() > 0.9 * (model.option_set.policy >= 0).sum()
    np.testing.assert_allclose(model.q_table[tried], exact[tried], atol=1e-9)
    assert exact_evaluation(model).regret == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("doors", 'options=\'doors\' must be "hallways", "primitive"'),
        ((np.zeros((1, 3), int), np.ones((1, 3))), r"both of shape \[options, 4 states\]"),
        ((np.full((1, 4), 7), np.ones((1, 4))), "name the actions 7 to 7; allowed are 0 to 1"),
        ((np.zeros((1, 4), int), np.full((1, 4), 1.5)), "from 0 to 1"),
        (([[0] * 4], ["abcd"]), "options must be actions .* each an array"),
        (5, r"options=5 must be \(actions \[O, S\]"),
    ],
)
def test_options_that_are_none_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(OptionQLearning, options=options)


class Lawless(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)


def test_what_else_is_refused():
    with pytest.raises(ValueError, match="none may begin in state 2"):
        make_options([[0, 0, -1, 0]], np.ones((1, 4)), 4, 2)
    with pytest.raises(ValueError, match="exploration='softmax' must be 'epsilon-greedy'"):
        make(OptionQLearning, exploration="softmax")
    with pytest.raises(ValueError, match=r"gamma=1\.0 must be from 0 to below 1"):
        option_models(CHAIN, primitive_options(4, 2), 1.0)
    with pytest.raises(ValueError, match='options="hallways" needs the world\'s law'):
        OptionQLearning(env=Lawless())
