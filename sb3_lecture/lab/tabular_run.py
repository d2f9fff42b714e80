"""A tabular learner on a world, trained to a given number of steps: the same settings and steps, the same table.

One ``learn`` goes to the end and stops on the way where the picture needs a number: at about ten places a decade for the exact
regret, and one step before the end, so that the last transition can be shown with the table it met.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, StopTrainingOnMaxEpisodes

import sb3_lecture
from sb3_lecture.common.updates import max_value, mean_value
from sb3_lecture.common.wrappers import TimeLimit  # not what rl_zoo3 puts in its place
from sb3_lecture.exact.chain import policy_evaluation
from sb3_lecture.exact.solver import Solution, exact_optimum, optimal_actions, start_value
from sb3_lecture_envs.tabular_env import TabularEnv

#: steps at which the exact regret is computed
CHECKPOINTS = np.unique(np.round(np.geomspace(1, 1e6, 61)).astype(np.int64))
#: the algorithms a page may offer: their class, and what people read
LEARNERS = {
    "q_learning": ("QLearning", "Q-learning"),
    "sarsa": ("Sarsa", "Sarsa"),
    "expected_sarsa": ("ExpectedSarsa", "Expected Sarsa"),
    "sarsa_lambda": ("SarsaLambda", "Sarsa(λ)"),
    "q_lambda": ("QLambda", "Watkins's Q(λ)"),
}
WITH_TRACES = ("sarsa_lambda", "q_lambda")
#: those that learn a model and plan with it
WITH_MODEL = {"dyna_q": ("DynaQ", "Dyna-Q"), "prioritized_sweeping": ("PrioritizedSweeping", "Prioritized sweeping")}
MAX_EPISODE_STEPS = 200
#: how much less than the best still counts as optimal
SAME = 1e-7


class Transition(NamedTuple):
    """The last step: where, what, and the numbers of its TD error δ = r + discount · next_value − q."""

    state: int
    action: int
    reward: float
    next_state: int
    terminated: bool
    truncated: bool
    q: float
    discount: float
    next_value: float
    next_action: int  # the one whose value is the target's; -1: none, or all of them
    delta: float
    new_q: float


class _Recorder(BaseCallback):
    """Stops at the checkpoints, one step before the goal, and at the goal.

    :param run: what it records for
    :param goal: number of steps at the end; None: wherever the episode ends
    """

    def __init__(self, run: "TabularRun", goal: int | None) -> None:
        super().__init__()
        self.run, self.goal = run, goal

    def _on_training_start(self) -> None:
        if self.goal == self.model.num_timesteps + 1:
            self.run.note_before()

    def steps_until_call(self) -> int:
        """Env steps until the next stop."""
        now = self.model.num_timesteps
        later = CHECKPOINTS[np.searchsorted(CHECKPOINTS, now, side="right") :]
        stops = [int(step) for step in later[:1]] if self.run.graded else []
        if self.goal is not None:
            stops += [step for step in (self.goal - 1, self.goal) if step > now]
        return min(stops) - now if stops else 2**40

    def _on_step(self) -> bool:
        now = self.model.num_timesteps
        if self.run.graded and now in CHECKPOINTS:
            self.run.note_regret(now)
        if self.goal is not None and now == self.goal - 1:
            self.run.note_before()
        if self.goal is not None and now == self.goal:
            self.run.note_transition(self.locals)
        return True


class TabularRun:
    """A learner and its world.

    :param env: the world, without a time limit
    :param learner: a key of ``LEARNERS`` or ``WITH_MODEL``
    :param arguments: of the learner's class
    :param epsilon: probability of a random action, constant
    :param seed: of the learner and the world
    :param window: episodes that are remembered
    :param graded: whether the exact regret is noted on the way
    """

    def __init__(
        self, env: TabularEnv, learner: str, arguments: dict[str, Any], epsilon: float, seed: int, window: int = 100,
        graded: bool = True,
    ) -> None:  # fmt: skip
        self.mdp, self.layout, self.learner = env.mdp, env.layout, learner
        self.model = getattr(sb3_lecture, (LEARNERS | WITH_MODEL)[learner][0])(
            "TabularPolicy", TimeLimit(env, MAX_EPISODE_STEPS), seed=seed, exploration_fraction=0.0,
            exploration_initial_eps=epsilon, exploration_final_eps=epsilon, stats_window_size=window, **arguments,
        )  # fmt: skip
        self.gamma, self.graded = float(self.model.gamma), graded
        self.curve: list[tuple[int, float]] = [(0, self.regret())] if graded else []
        self.transition: Transition | None = None
        self.before = self.model.q_table.copy()  # [S, A], the table that the last step met
        self._state = 0

    @property
    def steps(self) -> int:
        """Steps trained."""
        return self.model.num_timesteps

    def train_to(self, steps: int) -> None:
        """Go on until ``steps`` have been trained; nothing is untrained."""
        if steps > self.steps:
            self.model.learn(steps - self.steps, callback=_Recorder(self, steps), log_interval=None, reset_num_timesteps=False)

    def end_of_episode(self, limit: int) -> int:
        """Go on to the end of the present episode, and return the steps trained by then; the last transition is not noted.

        :param limit: steps at most
        """
        stop = StopTrainingOnMaxEpisodes(max_episodes=1)
        callback = CallbackList([_Recorder(self, None), stop])
        if limit > self.steps:
            self.model.learn(limit - self.steps, callback=callback, log_interval=None, reset_num_timesteps=False)
        return self.steps

    # ---- what is noted on the way

    def note_before(self) -> None:
        """The next step is the last: remember the table and the state that it meets."""
        np.copyto(self.before, self.model.q_table)
        observations: Any = self.model._last_obs
        self._state = int(observations[0])

    def note_regret(self, steps: int) -> None:
        """Add a point to the curve."""
        self.curve.append((steps, self.regret()))

    def note_transition(self, seen: dict[str, Any]) -> None:
        """The last step, from what the loop tells its callbacks."""
        info = seen["infos"][0]
        done = bool(seen["dones"][0])
        truncated = done and bool(info.get("TimeLimit.truncated", False))
        s2 = int(info["terminal_observation"] if done else seen["new_obs"][0])
        a, r, q = int(seen["actions"][0]), float(seen["rewards"][0]), self.before
        s, terminated = self._state, done and not truncated
        discount = 0.0 if terminated else self.gamma
        a2, value = self._target(q, s, a, r, discount, s2, done)
        delta = r + discount * value - q[s, a]
        self.transition = Transition(
            s, a, r, s2, terminated, truncated, q[s, a], discount, value, a2, delta, self.model.q_table[s, a]
        )

    def _target(self, q: np.ndarray, s: int, a: int, r: float, discount: float, s2: int, done: bool) -> tuple[int, float]:
        """The next action and the value that the target of the algorithm takes in s2; ``q`` is the table before."""
        row = q[s2]
        if self.learner in ("q_learning", "q_lambda", *WITH_MODEL):
            return int(row.argmax()), float(max_value(row))
        if self.learner == "expected_sarsa":
            return -1, float(mean_value(row, self.behaviour(q)[s2]))
        a2 = int(self.model.memory.arrays().next_action[0])
        if a2 >= 0:
            return a2, float(row[a2])
        if discount == 0.0:
            return -1, 0.0
        alpha = float(self.model.lr_schedule(1.0))  # cut off by the time limit: the action that was drawn is forgotten, so
        return -1, ((self.model.q_table[s, a] - q[s, a]) / alpha - r + q[s, a]) / discount  # it is read off the change

    # ---- what is known

    def behaviour(self, q: np.ndarray) -> np.ndarray:
        """The ε-greedy policy of a table, ties shared evenly, float64 [S, A]."""
        best = q == q.max(axis=1, keepdims=True)
        epsilon = float(self.model.exploration_final_eps)
        return epsilon / q.shape[1] + (1.0 - epsilon) * best / best.sum(axis=1, keepdims=True)

    @cached_property
    def optimum(self) -> Solution:
        """The exact optimum of the world."""
        return exact_optimum(self.mdp, self.gamma)

    def greedy(self) -> np.ndarray:
        """The greedy action of each state, the first of the best, int64 [S]."""
        return self.model.q_table.argmax(axis=1)

    def regret(self) -> float:
        """By how much the greedy policy falls short of the optimum from the start, exactly."""
        value = policy_evaluation(self.mdp, self.greedy(), self.gamma)
        return start_value(self.mdp, self.optimum.v) - start_value(self.mdp, value)

    @property
    def state(self) -> int:
        """Where the learner stands."""
        observations: Any = self.model._last_obs
        return int(self.mdp.start_state[0]) if observations is None else int(observations[0])

    def curve_points(self) -> tuple[list[int], list[float]]:
        """Steps, and the exact regret after so many, up to the present."""
        points = list(self.curve)
        if points[-1][0] != self.steps:
            points.append((self.steps, self.regret()))
        return [steps for steps, _ in points], [regret for _, regret in points]

    def visits(self) -> np.ndarray:
        """How often each action was taken in each state, int64 [S, A]."""
        return self.model.policy.tries.numpy()

    def traces(self) -> np.ndarray | None:
        """The eligibility traces, float64 [S, A]; None: the algorithm keeps none."""
        return self.model.memory.arrays().trace[0] if self.learner in WITH_TRACES else None

    def good_actions(self) -> np.ndarray:
        """Which actions are optimal, bool [S, A]."""
        q = self.optimum.q
        return optimal_actions(q, tol=SAME * max(1.0, float(np.abs(q[np.isfinite(q)]).max(initial=0.0))))

    def episodes(self) -> tuple[list[float], list[int]]:
        """Returns and lengths of the last episodes."""
        ended: Any = self.model.ep_info_buffer
        return [e["r"] for e in ended or ()], [e["l"] for e in ended or ()]
