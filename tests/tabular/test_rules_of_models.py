"""Dyna's and prioritized sweeping's rules and models on two to five transitions worked by hand; nothing is compiled here."""

import numpy as np
import pytest
from worked import CUT, END, GAMMA, GO, learn, make

import sb3_lecture
from sb3_lecture.tabular import dyna_q, prioritized_sweeping

pytestmark = pytest.mark.usefixtures("plain")


def test_dyna_q_replays_what_it_has_seen():
    """Two planning steps on the only pair known: three Q-learning updates in all, towards 8."""
    model, agent = make(sb3_lecture.DynaQ, n_planning_steps=2)
    learn(model, agent, (0, 1, 8, 1, END))
    assert agent.q[0, 1] == 7.0 and agent.updates[0, 1] == 3
    model, agent = make(sb3_lecture.DynaQ, n_planning_steps=0, q=[[0, 0], [4, 2], [0, 0], [0, 0]])
    learn(model, agent, (0, 1, 8, 1, CUT))
    assert agent.q[0, 1] == 5.0 and not agent.memory.terminated[0, 1].any()


def test_dyna_q_plus_counts_the_time_since_a_pair_was_tried():
    """κ = 1: τ is 0 for the pair just tried; a pair tried four steps ago and a pair never tried get √τ on top."""
    model, agent = make(sb3_lecture.DynaQ, n_states=1, n_planning_steps=0, exploration_bonus=1.0)
    learn(model, agent, *[(0, 0, 0, 0, END)] * 4, (0, 1, 0, 0, END))
    np.testing.assert_array_equal(agent.memory.last_tried[0], [4, 5])
    rule, options = model._rules()[1], agent.options._replace(n_planning_steps=1)
    agent.q[:] = 0.0
    for _ in range(60):  # which pair is drawn is chance; clock and tries stand still
        before = agent.q.copy()
        agent.memory.clock[0], agent.memory.last_tried[0] = 8, [4, 0]
        rule(agent._replace(options=options), 0, 0, 1, 0.0, 0.0, 0, True)  # the real step: (0, 1) now, clock 9
        assert agent.memory.last_tried[0].tolist() == [4, 9]
        if agent.q[0, 0] != before[0, 0]:
            assert agent.q[0, 0] == before[0, 0] + 0.5 * (np.sqrt(5.0) - before[0, 0])
            break
        assert agent.q[0, 1] == 0.0  # τ = 0: no bonus for what was tried just now
    else:
        pytest.fail("(0, 0) was never drawn")


def test_dyna_q_plus_plans_with_actions_never_taken():
    """They are believed to lead back with reward 0: κ √τ + γ max q."""
    model, agent = make(sb3_lecture.DynaQ, n_states=1, n_planning_steps=80, exploration_bonus=2.0, learning_rate=1.0)
    learn(model, agent, (0, 0, 0, 0, END))
    assert agent.memory.n_pairs[0] == 2 and agent.memory.last_tried[0, 1] == 0
    assert agent.q[0, 0] == 0.0  # τ = 0
    assert agent.q[0, 1] == pytest.approx(2.0 / (1 - GAMMA), rel=1e-6)  # x = 2 √1 + ½ x
    model, agent = make(sb3_lecture.DynaQ, n_states=1, n_planning_steps=40)
    learn(model, agent, (0, 0, 0, 0, END))
    assert agent.memory.n_pairs[0] == 1


def test_models_count_outcomes_and_let_the_rarest_go():
    model = dyna_q.make_model(1, 1, 2)
    for r, s2 in ((1.0, 0), (3.0, 0), (5.0, 1)):
        dyna_q.remember(model, 0, 0, r, s2, False)
    np.testing.assert_array_equal(model.seen[0, 0], [2, 1])
    np.testing.assert_array_equal(model.reward[0, 0], [2.0, 5.0])  # the mean of 1 and 3
    assert dyna_q.remember(model, 0, 0, 7.0, 1, True) == 1  # another outcome, as it ends: takes the rarest's place
    np.testing.assert_array_equal(model.seen[0, 0], [2, 1])
    assert model.total[0, 0] == 3 and model.reward[0, 0, 1] == 7.0 and model.terminated[0, 0].tolist() == [False, True]
    last = dyna_q.make_model(1, 1, 1)  # the book's model
    for r in (1.0, 3.0):
        dyna_q.remember(last, 0, 0, r, 0, False)
    assert last.reward[0, 0, 0] == 3.0 and last.total[0, 0] == 1


def test_outcomes_are_drawn_as_often_as_they_happened():
    model, agent = make(sb3_lecture.DynaQ, n_planning_steps=0)
    for s2 in (1, 1, 1, 2):
        learn(model, agent, (0, 0, 0, s2, GO))
    drawn = [agent.memory.next_state[0, 0, dyna_q.draw_outcome(agent, 0, 0)] for _ in range(2000)]
    assert np.mean(np.array(drawn) == 1) == pytest.approx(0.75, abs=0.04)
    assert set(drawn) == {1, 2}


def test_prioritized_sweeping_takes_the_most_urgent_pair_first():
    """Three pairs wait with changes 1, 8 and 4, and one update is made: that of 8."""
    model, agent = make(sb3_lecture.PrioritizedSweeping, n_planning_steps=1, learning_rate=1.0)
    memory = agent.memory
    for s, r in ((0, 1.0), (1, 8.0), (2, 4.0)):
        dyna_q.remember(memory, s, 0, r, 3, True)
        prioritized_sweeping.link(memory, s * 2, 0, 3)
        prioritized_sweeping.queue(agent, s, 0)
    learn(model, agent, (3, 1, 0, 3, END))  # no change worth it: takes from the queue
    np.testing.assert_array_equal(agent.q[:, 0], [0, 8, 0, 0])
    learn(model, agent, (3, 1, 0, 3, END))
    np.testing.assert_array_equal(agent.q[:, 0], [0, 8, 4, 0])
    assert memory.size[0] == 1 and memory.heap[0] == 0


def test_prioritized_sweeping_goes_back_to_predecessors():
    """0 → 1 → 2 → end with 8: one surprise at the end goes all the way back within three updates."""
    model, agent = make(sb3_lecture.PrioritizedSweeping, n_planning_steps=3, learning_rate=1.0)
    learn(model, agent, (0, 1, 0, 1, GO), (1, 1, 0, 2, GO))
    assert not agent.q.any() and agent.updates.sum() == 0
    learn(model, agent, (2, 1, 8, 3, END))
    np.testing.assert_array_equal(agent.q[:, 1], [2, 4, 8, 0])
    model, agent = make(sb3_lecture.PrioritizedSweeping, n_planning_steps=3, learning_rate=1.0, threshold=2.0)
    learn(model, agent, (0, 1, 0, 1, GO), (1, 1, 0, 2, GO), (2, 1, 8, 3, END))
    np.testing.assert_array_equal(agent.q[:, 1], [0, 4, 8, 0])  # a change of 2 is not above the threshold


def test_prioritized_sweeping_learns_expectations():
    """¾ leads to 1 (worth 8, so 1 + 4), ¼ ends with 9: the model's mean is 6; at a time limit the future counts."""
    model, agent = make(sb3_lecture.PrioritizedSweeping, q=[[0, 0], [8, 2], [0, 0], [0, 0]], learning_rate=1.0)
    learn(model, agent, *[(0, 0, 1, 1, GO)] * 3, (0, 0, 9, 1, END))
    assert agent.q[0, 0] == 0.75 * (1 + 0.5 * 8) + 0.25 * 9
    learn(model, agent, (0, 1, 1, 1, CUT))
    assert agent.q[0, 1] == 1 + 0.5 * 8


@pytest.mark.parametrize("seed", range(5))
def test_the_queue_hands_out_pairs_by_urgency(seed):
    """The heap against a sorted list, with urgencies that rise while they wait."""
    rng = np.random.default_rng(seed)
    _, agent = make(sb3_lecture.PrioritizedSweeping, n_states=12, gamma=0.0)
    waiting = {}
    for _ in range(60):
        s, a, r = int(rng.integers(12)), int(rng.integers(2)), float(rng.integers(1, 50))
        agent.memory.seen[s, a, 0] = agent.memory.total[s, a] = 1
        agent.memory.reward[s, a, 0] = r
        prioritized_sweeping.queue(agent, s, a)
        waiting[2 * s + a] = max(r, waiting.get(2 * s + a, 0.0))
    taken = [prioritized_sweeping.take(agent.memory) for _ in range(len(waiting))]
    assert sorted(taken) == sorted(waiting) and agent.memory.size[0] == 0
    urgencies = [waiting[pair] for pair in taken]
    assert urgencies == sorted(urgencies, reverse=True)


def test_a_forgotten_outcome_is_no_predecessor_any_more():
    model, agent = make(sb3_lecture.PrioritizedSweeping, model_outcomes=1)
    learn(model, agent, (0, 0, 0, 2, GO), (0, 1, 0, 2, GO), (1, 0, 0, 2, GO))
    links = []

    def predecessors(s):
        links.clear()
        slot = agent.memory.first_link[s]
        while slot >= 0:
            links.append(int(slot))
            slot = agent.memory.next_link[slot]
        return sorted(links)

    assert predecessors(2) == [0, 1, 2]  # pairs are their own slots where the model keeps one outcome
    learn(model, agent, (0, 1, 0, 3, GO))  # in the middle of the list
    assert predecessors(2) == [0, 2] and predecessors(3) == [1]
    learn(model, agent, (1, 0, 0, 3, GO))  # at its head
    assert predecessors(2) == [0] and predecessors(3) == [1, 2]
