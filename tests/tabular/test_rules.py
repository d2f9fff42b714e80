"""Every algorithm's rule on two to five transitions worked by hand. Rules are plain functions: nothing is compiled here."""

import numpy as np
import pytest
from worked import ALPHA, CUT, END, GAMMA, GO, learn, make, world

import sb3_lecture
from sb3_lecture.common.linear_updates import TRUE_ONLINE, trace_step
from sb3_lecture.tabular import kernels, off_policy_n_step_sarsa

pytestmark = pytest.mark.usefixtures("plain")


def test_q_learning():
    q = learn(*make(sb3_lecture.QLearning, q=[[0, 2], [1, 4], [0, 0], [0, 8]]), (0, 1, 1, 1, GO), (1, 0, 3, 3, CUT))
    # 2 + ½ (1 + ½ · 4 - 2) = 2.5;  1 + ½ (3 + ½ · 8 - 1) = 4
    np.testing.assert_array_equal(q, [[0, 2.5], [4, 4], [0, 0], [0, 8]])
    q = learn(*make(sb3_lecture.QLearning, q=[[0, 2], [1, 4], [0, 0], [0, 8]]), (1, 0, 3, 3, END))
    assert q[1, 0] == 2.0


def test_upper_confidence_bounds_by_hand():
    """Eq. 2.10 with N = 1 and 3, so t = 4; c = 4 weighs the doubt, c = ½ the values."""
    q, tries = np.array([1.0, 2.0, 9.0]), np.array([1, 3, 0])
    for c, best in ((4.0, 0), (0.5, 1)):
        scores = [kernels.ucb_score(q[:2], tries[:2], a, c) for a in range(2)]
        np.testing.assert_allclose(scores, [1 + c * np.sqrt(np.log(4)), 2 + c * np.sqrt(np.log(4) / 3)])
        assert kernels.ucb_action(q[:2], tries[:2], c, np.zeros(2, np.uint64)) == np.argmax(scores) == best
    assert kernels.ucb_score(q, tries, 2, 0.5) == np.inf  # never tried
    assert kernels.ucb_action(q, tries, 0.5, np.zeros(2, np.uint64)) == 2


def test_sarsa():
    model, agent = make(sb3_lecture.Sarsa, q=[[0, 2], [6, 4], [0, 0], [0, 0]])
    learn(model, agent, (0, 1, 1, 1, GO))
    assert agent.q[0, 1] == 2 + 0.5 * (1 + 0.5 * 6 - 2)  # a' is greedy: 0
    assert model._rules()[0](agent, 0, 1) == 0 and agent.memory.next_action[0] == 0
    agent.q[1] = [0, 9]  # whatever has changed, the action is the one that the target spoke of
    assert model._rules()[0](agent, 0, 1) == 0
    learn(model, agent, (1, 0, 3, 0, CUT))
    assert agent.q[1, 0] == 0.5 * (3 + 0.5 * 3.0)  # q(0, 1) is 3 now
    assert agent.memory.next_action[0] == -1  # a new episode chooses anew
    learn(model, agent, (1, 1, 3, 0, END))
    assert agent.q[1, 1] == 9 + 0.5 * (3 - 9) and agent.memory.next_action[0] == -1


def test_expected_sarsa():
    model, agent = make(sb3_lecture.ExpectedSarsa, q=[[0, 2], [6, 4], [0, 0], [0, 0]])
    agent.epsilon[0] = 0.5  # b(· | 1) = 0.75, 0.25
    learn(model, agent, (0, 1, 1, 1, GO), (0, 0, 1, 1, CUT), (1, 1, 2, 0, END))
    np.testing.assert_array_equal(agent.q[0], [0.5 * (1 + 0.5 * 5.5), 2 + 0.5 * (1 + 0.5 * 5.5 - 2)])
    assert agent.q[1, 1] == 3.0


def test_double_q_learning():
    """Q1(1, ·) = 6, 4 and Q2(1, ·) = 0, 8: Q1 picks action 0, which Q2 holds to be worth 0; Q2 picks 1, worth 4 in Q1."""
    seen = set()
    for seed in range(8):
        model, agent = make(sb3_lecture.DoubleQLearning, seed=seed)
        agent.q[1], agent.memory.half_gap[1] = [3, 6], [3, -2]
        agent.q[0, 1], agent.memory.half_gap[0, 1] = 2, 1  # Q1 = 3, Q2 = 1
        np.testing.assert_array_equal(model.q_tables[:, 1], [[6, 4], [0, 8]])
        learn(model, agent, (0, 1, 1, 1, GO))
        one, two = model.q_tables[:, 0, 1].tolist()
        assert (one, two) in ((3 + 0.5 * (1 + 0.5 * 0 - 3), 1), (3, 1 + 0.5 * (1 + 0.5 * 4 - 1)))
        assert agent.q[0, 1] == 0.5 * (one + two)
        seen.add((one, two))
        np.testing.assert_array_equal(agent.memory.counts[:, 0, 1], [one != 3, two != 1])
        assert agent.updates[0, 1] == 1
    assert len(seen) == 2


def test_double_q_learning_averages_each_table_by_its_own_count():
    model, agent = make(sb3_lecture.DoubleQLearning, learning_rate="1/N", seed=0)
    learn(model, agent, *[(0, 0, r, 0, END) for r in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)])
    tables, counts = model.q_tables[:, 0, 0], agent.memory.counts[:, 0, 0]
    assert counts.sum() == 6 and counts.min() > 0
    assert tables @ counts == pytest.approx(63.0, rel=1e-12)  # mean · number = sum, over both tables


def test_what_is_written_into_the_q_table_of_double_q_learning_moves_both_tables():
    model, agent = make(sb3_lecture.DoubleQLearning)
    learn(model, agent, *[(0, 1, 4.0, 0, END)] * 3, (1, 0, 1.0, 0, GO))
    before = model.q_tables
    model.q_table[0] = [7.0, -2.0]
    after = model.q_tables
    np.testing.assert_array_equal(after.mean(axis=0)[0], [7.0, -2.0])
    np.testing.assert_array_equal(after[0] - after[1], before[0] - before[1])
    learn(model, agent, (2, 0, 0.0, 0, GO))
    best = after[:, 0, 0]  # 7: action 0 is best in both
    assert agent.q[2, 0] in 0.5 * 0.5 * 0.5 * best


@pytest.mark.parametrize("cls", [sb3_lecture.NStepSarsa, sb3_lecture.TDPrediction])
def test_two_steps(cls):
    """Three transitions and the end: the first waits for two rewards, the last two take what is left."""
    values = [[10, 20], [30, 40], [50, 60], [70, 80]] if cls is sb3_lecture.NStepSarsa else [10, 30, 50, 70]
    model, agent = make(cls, q=values, n_steps=2)
    a = 1 if cls is sb3_lecture.NStepSarsa else 0
    first, second, third = agent.q[0, a], agent.q[1, a], agent.q[2, a]
    learn(model, agent, (0, a, 1, 1, GO))
    assert agent.q[0, a] == first  # it waits
    learn(model, agent, (1, a, 2, 2, GO))
    assert agent.q[0, a] == first + 0.5 * (1 + 0.5 * 2 + 0.25 * third - first)  # a' is greedy: 1
    learn(model, agent, (2, a, 4, 3, END))
    assert agent.q[1, a] == second + 0.5 * (2 + 0.5 * 4 - second)
    assert agent.q[2, a] == third + 0.5 * (4 - third)
    assert agent.updates.sum() == 3 and agent.memory.waiting[0] == 0
    learn(model, agent, (1, a, 2, 3, CUT))  # a time limit: the estimate of where it was cut counts
    expected = second + 0.5 * (2 + 0.5 * 4 - second)
    assert agent.q[1, a] == expected + 0.5 * (2 + 0.5 * agent.q[3, a] - expected)


CHAIN = [[0, 2], [6, 4], [1, 3], [0, 0]]
#: 0 → 1 → 2 → end with rewards 1, 2, 4; at γ = ½, Q(2, ·) is worth 3 to a greedy target
TWO_STEPS = [
    # greedy a' = 0 in state 1, then 1 in state 2; b takes greedy actions with ¾, so ρ = 4/3 each
    (sb3_lecture.OffPolicyNStepSarsa, {}, 0, 2 + 0.5 * (16 / 9) * (1 + 0.5 * 2 + 0.25 * 3 - 2), 6 + 0.5 * (4 / 3) * (4 - 6)),
    (sb3_lecture.OffPolicyNStepSarsa, {"expected": True}, 0, 2 + 0.5 * (4 / 3) * (2.75 - 2), 6 + 0.5 * (4 / 3) * (4 - 6)),
    (sb3_lecture.OffPolicyNStepSarsa, {"expected": True, "target_eps": 0.5}, 0, 2 + 0.5 * (2 + 0.25 * 2.5 - 2), 5.0),
    (sb3_lecture.TreeBackup, {}, 0, 2 + 0.5 * (1 + 0.5 * 3.5 - 2), 6 + 0.5 * (4 - 6)),
    # π = ¾, ¼: the last step is 2 + ½ (¾ · 3 + ¼ · 1) = 3.25; 1 + ½ (¾ · 3.25 + ¼ · 4); then 2 + ½ (¾ · 4 + ¼ · 1)
    (sb3_lecture.TreeBackup, {"target_eps": 0.5}, 0, 2 + 0.5 * (1 + 0.5 * 3.4375 - 2), 6 + 0.5 * (3.625 - 6)),
    # σ = ½: ½ · 4/3 + ½ · 1 = 7/6 of G' - Q; in the end G = 2 + ½ (7/6 (4 - 3) + 3) for (1, 0)
    (sb3_lecture.QSigma, {}, 0, 2 + 0.5 * (1 + 0.5 * (7 / 6 * (3.5 - 6) + 6) - 2), 6 + 0.5 * (2 + 0.5 * (7 / 6 + 3) - 6)),
    # without control variates: G = 2 + ½ (½ · 4/3 · 3 + ½ · 3) = 3.75, then 1 + ½ · 7/6 · 3.75; then 2 + ½ · 7/6 · 4
    (sb3_lecture.QSigma, {"control_variate": False}, 0, 2 + 0.5 * (1 + 7 / 12 * 3.75 - 2), 6 + 0.5 * (2 + 7 / 3 - 6)),
    # a' = 1 in state 1, which a greedy target does not take: ρ = π = 0. Nothing is learned, or the tree ends there
    (sb3_lecture.OffPolicyNStepSarsa, {}, 1, 2.0, 4 + 0.5 * (4 / 3) * (4 - 4)),
    (sb3_lecture.TreeBackup, {}, 1, 2 + 0.5 * (1 + 0.5 * 6 - 2), 4.0),
    (sb3_lecture.QSigma, {}, 1, 2 + 0.5 * (1 + 0.5 * 6 - 2), 4 + 0.5 * (2 + 0.5 * (7 / 6 + 3) - 4)),
]


@pytest.mark.parametrize(("cls", "kwargs", "a", "first", "second"), TWO_STEPS, ids=lambda x: getattr(x, "__name__", None))
def test_two_steps_off_policy(cls, kwargs, a, first, second, monkeypatch):
    actions = [a, 1, 0]
    monkeypatch.setattr(off_policy_n_step_sarsa, "commit", lambda *_: actions.pop(0))
    model, agent = make(cls, q=CHAIN, n_steps=2, **kwargs)
    agent.epsilon[0] = 0.5
    learn(model, agent, (0, 1, 1, 1, GO))
    assert agent.q[0, 1] == 2
    learn(model, agent, (1, a, 2, 2, GO))
    assert agent.q[0, 1] == pytest.approx(first, rel=1e-14) and agent.q[1, a] == CHAIN[1][a]
    learn(model, agent, (2, 1, 4, 3, END))
    assert agent.q[1, a] == pytest.approx(second, rel=1e-14)
    assert agent.q[2, 1] == 3 + 0.5 * (4 - 3) and agent.updates.sum() == 3 and agent.memory.waiting[0] == 0


def test_two_steps_expected():
    """ε = ½: state 2 is worth ¾ · 3 + ¼ · 1 = 2.5 under the behaviour policy, at a time limit too."""
    model, agent = make(sb3_lecture.NStepSarsa, q=CHAIN, n_steps=2, expected=True)
    agent.epsilon[0] = 0.5
    learn(model, agent, (0, 1, 1, 1, GO), (1, 0, 2, 2, CUT))
    assert agent.q[0, 1] == 2 + 0.5 * (1 + 0.5 * 2 + 0.25 * 2.5 - 2)
    assert agent.q[1, 0] == 6 + 0.5 * (2 + 0.5 * 2.5 - 6)
    learn(model, agent, (2, 1, 4, 3, END))
    assert agent.q[2, 1] == 3.5 and agent.memory.next_action[0] == -1


class Boxes:
    """The boxes of sections 7.3, 7.5 and 7.6, written out with lists; several envs share the table."""

    def __init__(self, kind, q, n, target_eps, sigma=0.5):
        self.kind, self.Q, self.n, self.target_eps, self.sigma, self.envs = kind, q.copy(), n, target_eps, sigma, {}

    def policy(self, s, epsilon):
        best = self.Q[s] == self.Q[s].max()
        return epsilon / len(best) + (1 - epsilon) * best / best.sum()

    def begin(self, i, s, a):
        self.envs[i] = {"S": [s], "A": [a], "R": [None], "rho": [None], "tau": 0}

    def step(self, i, r, s2, a2, terminated, last, epsilon):
        """One pass of the box's loop; a cut is the end of the window, not of the episode."""
        e = self.envs[i]
        e["S"].append(s2), e["A"].append(a2), e["R"].append(r)
        e["rho"].append(self.policy(s2, self.target_eps)[a2] / self.policy(s2, epsilon)[a2])
        h = len(e["S"]) - 1
        while e["tau"] <= (h - 1 if last else h - self.n):
            tau = e["tau"]
            s, a = e["S"][tau], e["A"][tau]
            self.Q[s, a] += ALPHA * self.error(e, tau, h, terminated)
            e["tau"] += 1

    def error(self, e, tau, h, over):
        S, A, R, rho, Q = e["S"], e["A"], e["R"], e["rho"], self.Q
        value = [self.policy(s, self.target_eps) @ Q[s] for s in S]
        here = Q[S[tau], A[tau]]
        if self.kind in ("sarsa", "expected"):
            end = 0.0 if over else (Q[S[h], A[h]] if self.kind == "sarsa" else value[h])
            g = sum(GAMMA ** (k - tau - 1) * R[k] for k in range(tau + 1, h + 1)) + GAMMA ** (h - tau) * end
            return np.prod(rho[tau + 1 : h + (self.kind == "sarsa" and not over)]) * (g - here)
        g = None if over else Q[S[h], A[h]]
        for k in range(h, tau, -1):
            if over and k == h:
                g = R[k]
                continue
            pi, q, others = self.policy(S[k], self.target_eps), Q[S[k], A[k]], range(Q.shape[1])
            tree = sum(pi[b] * Q[S[k], b] for b in others if b != A[k]) + pi[A[k]] * g
            if self.kind == "tree":
                g = R[k] + GAMMA * tree
            elif self.kind == "sigma":
                g = R[k] + GAMMA * (self.sigma * rho[k] + (1 - self.sigma) * pi[A[k]]) * (g - q) + GAMMA * value[k]
            else:
                g = R[k] + GAMMA * (self.sigma * rho[k] * g + (1 - self.sigma) * tree)
        return g - here


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("target_eps", [0.0, 0.2])
@pytest.mark.parametrize(
    ("kind", "cls", "kwargs"),
    [
        ("sarsa", sb3_lecture.OffPolicyNStepSarsa, {}),
        ("expected", sb3_lecture.OffPolicyNStepSarsa, {"expected": True}),
        ("tree", sb3_lecture.TreeBackup, {}),
        ("sigma", sb3_lecture.QSigma, {"sigma": 0.3}),
        ("bare", sb3_lecture.QSigma, {"sigma": 0.3, "control_variate": False}),
    ],
)
def test_off_policy_learners_do_what_the_books_boxes_do(kind, cls, kwargs, target_eps, n, monkeypatch):
    """Two envs in step, 60 transitions with deaths and cuts; the table after each."""
    rng = np.random.default_rng(n)
    drawn = {}
    monkeypatch.setattr(off_policy_n_step_sarsa, "commit", lambda agent, i, *_: drawn[i])
    start = rng.normal(size=(5, 3))
    start[4] = 1.0  # ties
    model, agent = make(cls, n_states=5, n_actions=3, q=start, n_envs=2, n_steps=n, target_eps=target_eps, **kwargs)
    agent.epsilon[0] = 0.5
    boxes = Boxes(kind, start, n, target_eps, 0.3)
    now = {}
    for _ in range(60):
        for i in range(2):
            if i not in now:
                now[i] = int(rng.integers(5)), int(rng.integers(3))
                boxes.begin(i, *now[i])
            s, a = now[i]
            r, s2, drawn[i], end = float(rng.integers(-3, 4)), int(rng.integers(5)), int(rng.integers(3)), rng.random()
            terminated, truncated = end < 0.1, end > 0.9
            boxes.step(i, r, s2, drawn[i], terminated, terminated or truncated, 0.5)
            learn(model, agent, (s, a, r, s2, (terminated, truncated)), env=i)
            np.testing.assert_allclose(agent.q, boxes.Q, rtol=1e-11, atol=1e-13)
            now[i] = s2, drawn[i]
            if terminated or truncated:
                del now[i]


SAME = [
    (sb3_lecture.NStepSarsa, {"n_steps": 1, "expected": True}, sb3_lecture.ExpectedSarsa, {}),
    (sb3_lecture.TreeBackup, {"n_steps": 1, "target_eps": None}, sb3_lecture.ExpectedSarsa, {}),
    (sb3_lecture.OffPolicyNStepSarsa, {"target_eps": None}, sb3_lecture.NStepSarsa, {}),
    (sb3_lecture.QSigma, {"sigma": 1.0, "target_eps": None, "control_variate": False}, sb3_lecture.NStepSarsa, {}),
]


@pytest.mark.parametrize(("cls", "kwargs", "other", "others"), SAME, ids=lambda x: getattr(x, "__name__", None))
def test_limiting_cases_are_the_same_learner(cls, kwargs, other, others):
    """On the cliff, bit by bit, random numbers included."""
    one, two = (
        c(env="Lecture/CliffWalking-v0", seed=3, n_steps=4, **k) if "n_steps" not in k and c is not sb3_lecture.ExpectedSarsa
        else c(env="Lecture/CliffWalking-v0", seed=3, **k)
        for c, k in ((cls, kwargs), (other, others))
    )  # fmt: skip
    np.testing.assert_array_equal(one.learn(400).q_table, two.learn(400).q_table)
    assert one.q_table.any()


CLOSE = [
    (sb3_lecture.TreeBackup, {"n_steps": 1}, sb3_lecture.QLearning, {}),
    (sb3_lecture.QSigma, {"n_steps": 1, "sigma": 0.7}, sb3_lecture.QLearning, {}),  # the last step is an expectation
    (sb3_lecture.QSigma, {"n_steps": 3, "sigma": 0.0}, sb3_lecture.TreeBackup, {"n_steps": 3}),
    (sb3_lecture.QSigma, {"n_steps": 3, "sigma": 0.0, "control_variate": False}, sb3_lecture.TreeBackup, {"n_steps": 3}),
    (sb3_lecture.OffPolicyNStepSarsa, {"n_steps": 1, "expected": True}, sb3_lecture.QLearning, {}),
]


@pytest.mark.parametrize(("cls", "kwargs", "other", "others"), CLOSE, ids=lambda x: getattr(x, "__name__", None))
def test_limiting_cases_learn_the_same_from_the_same_steps(cls, kwargs, other, others):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 2))
    steps = [
        (int(rng.integers(4)), int(rng.integers(2)), float(rng.normal()), int(rng.integers(4)), (GO, GO, GO, END, CUT)[k % 5])
        for k in range(40)
    ]
    tables = [learn(*make(c, q=start, **k), *steps) for c, k in ((cls, kwargs), (other, others))]
    np.testing.assert_allclose(*tables, rtol=1e-12)


def test_a_behaviour_that_does_not_cover_the_target_is_refused():
    for cls in (sb3_lecture.OffPolicyNStepSarsa, sb3_lecture.QSigma):
        with pytest.raises(ValueError, match=r"exploration='ucb'.*coverage"):
            cls(env=world(), exploration="ucb")
        with pytest.raises(ValueError, match=r"target_eps=0\.1.*coverage"):
            cls(env=world(), exploration_final_eps=0.0, target_eps=0.1)
        cls(env=world(), exploration_final_eps=0.0)  # a greedy behaviour covers a greedy target
        cls(env=world(), exploration="ucb", target_eps=None)
    sb3_lecture.QSigma(env=world(), exploration="ucb", sigma=0.0)  # a tree needs no ratio
    sb3_lecture.TreeBackup(env=world(), exploration="ucb")


@pytest.mark.parametrize(("traces", "second"), [("accumulating", 1.25), ("replacing", 1.0)])
@pytest.mark.parametrize("cls", [sb3_lecture.SarsaLambda, sb3_lecture.QLambda])
def test_traces_of_pairs(cls, traces, second):
    """λ = ½, so traces fade to a quarter: (0, 1) met twice has e = 1.25 or 1, then (1, 1) has e = 1."""
    model, agent = make(cls, lambda_=0.5, traces=traces)
    learn(model, agent, (0, 1, 1, 0, GO))  # δ = 1
    assert agent.q[0, 1] == 0.5 and agent.memory.trace[0, 0, 1] == 0.25
    delta = 2 + 0.5 * 0.5 - 0.5
    learn(model, agent, (0, 1, 2, 0, GO))
    assert agent.q[0, 1] == 0.5 + 0.5 * delta * second
    before = agent.q[0, 1]
    learn(model, agent, (1, 1, 4, 2, END))
    assert agent.q[0, 1] == before + 0.5 * 4 * second / 4
    assert agent.q[1, 1] == 0.5 * 4
    assert agent.memory.n_active[0] == 0 and not agent.memory.trace.any()  # the episode is over


def test_sarsa_lambda_follows_the_action_it_will_take_and_q_lambda_the_best_one():
    for cls, worth, kept in ((sb3_lecture.SarsaLambda, 2.0, 0.25), (sb3_lecture.QLambda, 6.0, 0.0)):
        for seed in range(20):
            model, agent = make(cls, q=[[0, 0], [2, 6], [0, 0], [0, 0]], lambda_=0.5, seed=seed)
            agent.epsilon[0] = 1.0
            learn(model, agent, (0, 1, 1, 1, GO))
            if agent.memory.next_action[0] == 0:  # not the best one: Watkins's traces end
                break
        assert agent.q[0, 1] == 0.5 * (1 + 0.5 * worth), cls
        assert agent.memory.trace[0, 0, 1] == kept, cls


def test_true_online_sarsa_lambda_is_the_linear_one_with_a_feature_a_pair():
    """Against ``linear_updates.trace_step``, which is held to the online λ-return algorithm; by hand the first two steps."""
    start = [[0, 0], [2, 6], [1, 0], [0, 0]]
    model, agent = make(sb3_lecture.SarsaLambda, q=start, lambda_=0.5, traces="true-online")
    learn(model, agent, (0, 1, 1, 1, GO))
    assert agent.q[0, 1] == 0.5 * (1 + 0.5 * 6) and agent.memory.moved[0] == 0.0  # (1, 1) itself was not changed
    learn(model, agent, (1, 1, 2, 0, GO))  # δ = 2 + ½ · 2 - 6 = -3; e(0, 1) = ¼: it moves by ½ · -3 / 4
    np.testing.assert_array_equal(agent.q, [[0, 2 - 3 / 8], [2, 6 - 1.5], [1, 0], [0, 0]])
    assert agent.memory.moved[0] == -3 / 8  # the pair (0, 1) ahead was moved by its own trace
    steps = [
        (0, 1, 1, 1, GO),
        (1, 1, 2, 0, GO),
        (0, 1, 0, 0, GO),
        (0, 1, 5, 1, GO),
        (1, 1, -1, 0, CUT),
        (2, 0, 3, 1, GO),
        (1, 1, 4, 3, END),
    ]
    model, agent = make(sb3_lecture.SarsaLambda, q=start, lambda_=0.5, traces="true-online")
    w, z, moved = np.array(start, float).reshape(1, 8), np.zeros((1, 8)), 0.0
    for s, a, r, s2, (terminated, truncated) in steps:
        a2 = int(agent.q[s2].argmax())
        here, there = np.array([2 * s + a]), np.array([2 * s2 + a2])
        before, discount = w[0, there[0]], 0.0 if terminated else GAMMA
        trace_step(w, z, moved, 0, here, np.ones(1), r, discount, before, ALPHA, 1.0, GAMMA * 0.5, TRUE_ONLINE)
        moved = w[0, there[0]] - before
        if terminated or truncated:
            z[:], moved = 0, 0.0
        learn(model, agent, (s, a, r, s2, (terminated, truncated)))
        np.testing.assert_allclose(agent.q.ravel(), w[0], rtol=1e-13)


def test_true_online_is_no_form_of_watkinss_traces():
    with pytest.raises(ValueError, match="true-online"):
        sb3_lecture.QLambda(env=world(), traces="true-online")


def test_a_faded_trace_is_forgotten_and_the_others_stay():
    model, agent = make(sb3_lecture.SarsaLambda, lambda_=0.5, n_states=8)
    for k in range(20):  # 4⁻¹⁷ < 1e-10
        learn(model, agent, (k % 2 if k else 7, k % 2, 0, (k + 1) % 2, GO))
    assert agent.memory.trace[0, 7, 0] == 0.0 and agent.memory.n_active[0] == 2
    active = {(agent.memory.active_state[0, k], agent.memory.active_action[0, k]) for k in range(2)}
    assert active == {(0, 0), (1, 1)} == set(zip(*map(list, np.nonzero(agent.memory.trace[0])), strict=True))


def test_td_lambda_online_and_offline():
    """λ = ½: e(0) = 1, then ¼; δ₁ = 1 + ½ · 4 - 2 = 1 and δ₂ = 8 - V(1)."""
    model, agent = make(sb3_lecture.TDPrediction, q=[2, 4, 0, 0], lambda_=0.5)
    learn(model, agent, (0, 0, 1, 1, GO), (1, 0, 8, 2, END))
    np.testing.assert_array_equal(agent.q[:, 0], [2 + 0.5 * 1 + 0.5 * 4 / 4, 4 + 0.5 * 4, 0, 0])
    model, agent = make(sb3_lecture.TDPrediction, q=[2, 4, 0, 0], lambda_=0.5, offline=True)
    learn(model, agent, (0, 0, 1, 1, GO))
    assert agent.q[0, 0] == 2
    learn(model, agent, (1, 0, 8, 2, END))
    np.testing.assert_array_equal(agent.q[:, 0], [2 + 0.5 * 1 + 0.5 * 4 / 4, 4 + 0.5 * 4, 0, 0])
    assert not agent.memory.pending.any()


def test_true_online_td_lambda():
    """Twice from 0 to 0 with reward 1, α = γ = λ = ½: z = 1, then ¼ + 1 - ⅛; V: ½, then worked below."""
    model, agent = make(sb3_lecture.TDPrediction, lambda_=0.5, traces="true-online")
    learn(model, agent, (0, 0, 1, 0, GO))
    assert agent.q[0, 0] == 0.5 and agent.memory.moved[0] == 0.5
    z, delta, moved = 1.125, 1 + 0.5 * 0.5 - 0.5, 0.5
    learn(model, agent, (0, 0, 1, 0, GO))
    assert agent.q[0, 0] == 0.5 + 0.5 * (delta + moved) * z - 0.5 * moved
    learn(model, agent, (0, 0, 1, 0, END))
    assert agent.memory.n_active[0] == 0 and agent.memory.moved[0] == 0.0


def test_true_online_envs_do_not_take_each_others_changes_for_their_own():
    """Env 0 stands in state 1 while env 1 moves V(1) from 0 to 4: that is no move of env 0's own."""
    model, agent = make(sb3_lecture.TDPrediction, lambda_=0.5, traces="true-online", n_envs=2)
    learn(model, agent, (0, 0, 0, 1, GO), env=0)
    learn(model, agent, (1, 0, 8, 2, END), env=1)
    assert agent.q[1, 0] == 4
    learn(model, agent, (1, 0, 8, 2, END), env=0)
    np.testing.assert_array_equal(agent.q[:2, 0], [0.5 * 4 * 0.25, 4 + 0.5 * 4])  # mixed: 0.5 · (4 + 4) / 4 and 4 + 2


EPISODE = [(0, 1, 1, 0, GO), (0, 1, 2, 1, GO), (1, 0, 4, 2, END)]  # returns at γ = ½: 3, 4, 4


@pytest.mark.parametrize(("visits", "expected", "updates"), [("first", 3.0, 1), ("every", 3.5, 2)])
@pytest.mark.parametrize("cls", [sb3_lecture.MonteCarloControl, sb3_lecture.MonteCarloPrediction])
def test_monte_carlo_averages(cls, visits, expected, updates):
    model, agent = make(cls, visits=visits, learning_rate="1/N")
    learn(model, agent, *EPISODE)
    pair = (0, 1) if cls is sb3_lecture.MonteCarloControl else (0, 0)
    assert agent.q[pair] == expected and agent.updates[pair] == updates
    assert agent.q[1, 0] == 4.0 and agent.memory.length[0] == 0 and not agent.memory.occurrences.any()


@pytest.mark.parametrize("visits", ["first", "every"])
@pytest.mark.parametrize("cls", [sb3_lecture.MonteCarloControl, sb3_lecture.MonteCarloPrediction])
def test_monte_carlo_estimates_where_a_time_limit_cuts(cls, visits):
    control = cls is sb3_lecture.MonteCarloControl
    model, agent = make(cls, visits=visits, q=[[0, 0], [0, 0], [2, 6], [0, 0]] if control else [0, 0, 6, 0])
    agent.epsilon[0] = 0.5 if control else 0.0
    learn(model, agent, (0, 0, 1, 1, GO), (1, 0, 2, 2, CUT))
    end = 0.75 * 6 + 0.25 * 2 if control else 6.0
    np.testing.assert_array_equal(agent.q[:2, 0], [0.5 * (1 + 0.5 * (2 + 0.5 * end)), 0.5 * (2 + 0.5 * end)])


def off_policy(kind, q, chance, *transitions):
    model, agent = make(sb3_lecture.MonteCarloControl, q=q, importance_sampling=kind, learning_rate="1/N")
    for episode in transitions:
        agent.memory.chance[0, : len(episode)] = chance
        learn(model, agent, *episode)
    return agent


def test_off_policy_monte_carlo_weighted():
    """G = 4 at the last step, 3 before. W is 1, then 1 / ¼ = 4 if the last action was greedy. C adds them up."""
    episode = [(0, 1, 1, 1, GO), (1, 0, 4, 2, END)]
    agent = off_policy("weighted", np.zeros((4, 2)), [0.5, 0.25], episode)
    assert agent.q[1, 0] == 4.0 and agent.q[0, 1] == 3.0
    np.testing.assert_array_equal([agent.memory.weight[1, 0], agent.memory.weight[0, 1]], [1.0, 4.0])
    np.testing.assert_array_equal([agent.updates[1, 0], agent.updates[0, 1]], [1, 1])
    again = [(0, 1, 9, 1, GO), (1, 0, 8, 2, END)]  # G = 8, then 13
    agent = off_policy("weighted", np.zeros((4, 2)), [0.5, 0.5], episode, again)
    assert agent.q[1, 0] == 6.0 and agent.q[0, 1] == 3.0 + 2.0 / 4.0 * 10.0
    other = [(0, 1, 1, 1, GO), (1, 1, -9, 2, END)]  # the last action is not greedy: nothing before it is learned from
    agent = off_policy("weighted", np.zeros((4, 2)), [0.5, 0.5], other)
    assert agent.q[1, 1] == -9.0 and agent.q[0, 1] == 0.0 and agent.updates[0, 1] == 0


def test_off_policy_monte_carlo_ordinary():
    episode, other = [(0, 1, 1, 1, GO), (1, 0, 4, 2, END)], [(0, 1, 1, 1, GO), (1, 1, -9, 2, END)]
    agent = off_policy("ordinary", np.zeros((4, 2)), [0.5, 0.25], episode)
    assert agent.q[1, 0] == 4.0 and agent.q[0, 1] == 4.0 * 3.0
    agent = off_policy("ordinary", np.zeros((4, 2)), [0.5, 0.25], episode, other)
    assert agent.q[1, 1] == -9.0 and agent.q[0, 1] == 6.0 and agent.updates[0, 1] == 2  # ρ = 0 counts as a return of 0


@pytest.mark.parametrize("kind", ["weighted", "ordinary"])
def test_off_policy_monte_carlo_estimates_where_a_time_limit_cuts(kind):
    agent = off_policy(kind, [[0, 0], [0, 0], [2, 6], [0, 0]], [0.5], [(1, 0, 4, 2, CUT)])
    assert agent.q[1, 0] == 4 + 0.5 * 6


def test_the_chance_of_each_action_is_noted():
    model, agent = make(sb3_lecture.MonteCarloControl, importance_sampling="weighted", learning_rate="1/N")
    agent.q[1], agent.epsilon[0] = [0.0, 1.0], 0.5
    act = model._rules()[0]
    for _ in range(12):
        a, t = act(agent, 0, 1), agent.memory.length[0]
        assert agent.memory.chance[0, t] == (0.75 if a == 1 else 0.25)
        learn(model, agent, (1, a, 0, 1, GO))


@pytest.mark.parametrize("baseline", [True, False])
def test_gradient_bandit(baseline):
    """H = 0, 0 and α = ½: π = ½, ½. The mean of the rewards *before* this one is compared with."""
    model, agent = make(sb3_lecture.GradientBandit, n_states=1, baseline=baseline)
    learn(model, agent, (0, 1, 4, 0, END))
    np.testing.assert_allclose(agent.q[0], [-0.5 * 4 * 0.5, 0.5 * 4 * 0.5], rtol=1e-12)
    assert agent.memory.mean[0] == 4 and agent.memory.pulls[0] == 1
    pi = 1 / (1 + np.exp(-2.0))  # H = -1, 1
    advantage = 2 - 4 * baseline
    learn(model, agent, (0, 1, 2, 0, END))
    np.testing.assert_allclose(agent.q[0, 1], 1 + 0.5 * advantage * (1 - pi), rtol=1e-12)
    np.testing.assert_allclose(agent.q[0, 0], -1 - 0.5 * advantage * (1 - pi), rtol=1e-12)
    assert agent.memory.mean[0] == 3


def test_importance_sampling_of_predictions():
    """π = ¾, ¼ and b = ½, ½: ρ = 1.5 or 0.5. One episode of returns 3, 4 (see above), actions 1, 0."""
    settings = {"target_policy": [[0.75, 0.25]] * 4, "behavior_policy": "uniform", "learning_rate": "1/N"}
    episode = [(0, 1, 1, 1, GO), (1, 0, 4, 2, END)]
    model, agent = make(sb3_lecture.MonteCarloPrediction, **settings)
    learn(model, agent, *episode)
    np.testing.assert_array_equal(agent.q[:2, 0], [1.5 * 0.5 * 3, 1.5 * 4])
    model, agent = make(sb3_lecture.MonteCarloPrediction, importance_sampling="weighted", **settings)
    learn(model, agent, *episode, (1, 1, 8, 2, END))
    np.testing.assert_array_equal(agent.q[:2, 0], [3.0, 4 + 0.5 / 2.0 * 4])
    np.testing.assert_array_equal(agent.memory.weight[:2, 0], [0.75, 2.0])
    np.testing.assert_array_equal(agent.updates[:2, 0], [1, 2])


def test_sample_averages_of_one_step_methods():
    for cls in (sb3_lecture.QLearning, sb3_lecture.Sarsa, sb3_lecture.ExpectedSarsa, sb3_lecture.SarsaLambda):
        model, agent = make(cls, learning_rate="1/N")
        learn(model, agent, *[(0, 0, r, 1, END) for r in (3, 6, 0)])
        assert agent.q[0, 0] == pytest.approx(3.0, rel=1e-12) and agent.updates[0, 0] == 3, cls
