"""TabularAlgorithm: the one learning loop of all tabular methods that learn from experience, and what it saves.

The loop has two forms with one meaning. ``env``: SB3's VecEnv steps, two compiled calls a step act and learn. ``compiled``:
where the env carries its law, world and learner run together in one compiled loop, from one callback's turn to the next.
Both call the same two rules of the algorithm (see ``kernels``), in the same order, with the same random numbers: every env
acts, every env steps, every env learns, then the callback is called.

Deviation from SB3: the callback of a step is called after the step was learned from, not before.
"""

import math
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule, TensorDict
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import Choice, Real, check_arguments, check_settings, keywords_of, naming_memory
from sb3_lecture.common.compiling import announce
from sb3_lecture.common.logs import record_progress
from sb3_lecture.common.stepping import step_in_turn, step_together
from sb3_lecture.tabular.backend import (
    BACKENDS,
    CompiledWorld,
    find_world,
    monitors,
    note_episodes,
    put_states,
    read_episodes,
    write_episodes,
)
from sb3_lecture.tabular.callback_calls import NEVER, next_call, skip_calls, unknown_callbacks
from sb3_lecture.tabular.kernels import EXPLORATIONS, Agent, Nothing
from sb3_lecture.tabular.loop import (
    BAD_REWARD,
    BAD_STATE,
    FINE,
    EpsilonSchedule,
    Walk,
    World,
    compile_rules,
    make_walk,
    make_world,
    with_window,
)
from sb3_lecture.tabular.memory import Memory
from sb3_lecture.tabular.policy import TabularPolicy

SelfTabular = TypeVar("SelfTabular", bound="TabularAlgorithm")
Rules = tuple[Callable[..., int], Callable[..., None]]

SAMPLE_AVERAGE = "1/N"  #: learning_rate of the sample average
KERNEL_STEPS = 10_000_000  # the longest call of the compiled loop: Ctrl-C acts in between
WRITE_EVERY = 4096  # episodes between two writes into the Monitors
#: arguments of the learner that its policy knows, too
POLICY_ARGUMENTS = ("exploration", "temperature", "ucb_c", "initial_value")


class TabularAlgorithm(SafeSave, BaseAlgorithm):
    """The base of the tabular learners.

    :param policy: "TabularPolicy" ("MlpPolicy" is another name of it)
    :param env: an env with a Discrete or MultiDiscrete observation space and Discrete actions, its id, or a VecEnv
    :param learning_rate: α: a number, a schedule of the remaining progress (read a thousand times in a run), or "1/N" for the
        sample average of each pair's own visits (default 0.1)
    :param gamma: discount γ in [0, 1] (default 0.99)
    :param exploration: "epsilon-greedy", "softmax" or "ucb" (default "epsilon-greedy")
    :param exploration_fraction: share of the run over which ε falls (default 0.1)
    :param exploration_initial_eps: ε at the start, the probability of a *random* action (default 1.0)
    :param exploration_final_eps: ε at the end (default 0.05)
    :param temperature: of the softmax exploration (default 1.0)
    :param ucb_c: width of UCB's confidence bound (default 1.0)
    :param initial_value: what the table starts with; above the true values it makes the learner curious (default 0.0)
    :param backend: "env": step the VecEnv; "compiled": run the env's law in one compiled loop; "auto": the latter where it
        is possible (default "auto"). "compiled" also accepts an env that states its law as Gymnasium's ``P``
    :param policy_kwargs: further arguments of the policy. ``exploration``, ``temperature``, ``ucb_c`` and ``initial_value``
        may stand here as well, and then count
    :param stats_window_size: episodes over which the logged averages go (default 100)
    :param tensorboard_log: folder of the TensorBoard log; None: none
    :param verbose: 0 silent, 1 log tables and the backend with its reason
    :param device: accepted for SB3's sake; a table stays on the CPU
    :param seed: of the learner and the env; one seed, one result
    :param _init_setup_model: whether to build the table at once
    :raises ValueError: if an argument is out of its range or a space is not finite
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"TabularPolicy": TabularPolicy, "MlpPolicy": TabularPolicy}
    policy: TabularPolicy
    action_space: gym.spaces.Discrete
    #: fields of the memory with one entry an env: forgotten when the envs are reset
    _per_env: ClassVar[tuple[str, ...]] = ()
    #: entries of the table for each state; None: one an action
    _n_columns: ClassVar[int | None] = None
    #: the largest step size that makes sense
    _largest_rate: ClassVar[float] = 1.0
    _running = ("_walk",)
    _whole_at = "step"

    def __init__(
        self,
        policy: str | type[BasePolicy] = "TabularPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule | str = 0.1,
        gamma: float = 0.99,
        exploration: str = "epsilon-greedy",
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        temperature: float = 1.0,
        ucb_c: float = 1.0,
        initial_value: float = 0.0,
        backend: str = "auto",
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        device: th.device | str = "auto",
        seed: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments({**locals(), "learning_rate": 0.0}, exploration_fraction=Real(0, 1))  # its own check is below
        super().__init__(
            policy, env, learning_rate, policy_kwargs, stats_window_size, tensorboard_log, verbose,  # type: ignore[arg-type]
            device="cpu", support_multi_env=True, seed=seed,
        )  # fmt: skip
        self.gamma = gamma
        self.exploration = exploration
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.temperature = temperature
        self.ucb_c = ucb_c
        self.initial_value = initial_value
        self.backend = backend
        for name in POLICY_ARGUMENTS:
            setattr(self, name, self.policy_kwargs.get(name, getattr(self, name)))
        self._walk: Walk | None = None
        self._check_arguments()
        if _init_setup_model:
            self._setup_model()

    # ---- what an algorithm states

    def _rules(self) -> Rules:
        """The two rules (act, update) of the algorithm; see ``kernels``."""
        raise NotImplementedError

    def _make_memory(self) -> NamedTuple:
        """Fresh arrays of the algorithm's own; names listed in ``_per_env`` are made anew when the envs are reset."""
        return Nothing()

    def _options(self) -> NamedTuple:
        """Numbers that the rules read, in a named tuple of the algorithm's own."""
        return Nothing()

    def _check_arguments(self) -> None:
        """Refuse arguments outside their range.

        :raises ValueError: naming the value and what is allowed
        """
        check_settings(
            self, gamma=Real(0, 1), exploration_fraction=Real(0, 1), exploration_initial_eps=Real(0, 1),
            exploration_final_eps=Real(0, 1), exploration=Choice(*EXPLORATIONS), backend=Choice(*BACKENDS),
            temperature=Real(above=0), ucb_c=Real(0), initial_value=Real(),
        )  # fmt: skip
        rate: Any = self._constant_rate()
        if isinstance(rate, str):
            Choice(SAMPLE_AVERAGE).check("learning_rate", rate)
        else:
            Real(above=0, high=self._largest_rate, schedule=True).check("learning_rate", rate)

    # ---- what SB3 builds, saves and loads

    @naming_memory("n_steps", "model_outcomes", "max_episode_length", "max_option_steps")
    def _setup_model(self) -> None:
        self.lr_schedule = FloatSchedule(0.0 if isinstance(self.learning_rate, str) else self.learning_rate)
        super().set_random_seed(self.seed)
        policy_class: Any = self.policy_class
        self._check_policy(policy_class)
        arguments = {**self.policy_kwargs, **{name: getattr(self, name) for name in POLICY_ARGUMENTS}}
        arguments = {**self._policy_arguments(), **arguments}
        self.policy = policy_class(self.observation_space, self.action_space, **arguments)
        self.policy.epsilon[0] = float(self.exploration_initial_eps)
        self.memory = Memory(_random_state(self.seed), self._make_memory(), self._per_env, self._translate_memory)

    def _check_policy(self, policy_class: Any) -> None:
        """Refuse policies and arguments of them that would have no effect.

        :raises ValueError: naming them and what is allowed
        """
        fixed = ("observation_space", "action_space", "n_columns")
        allowed = [name for name in keywords_of(policy_class) if name not in fixed]
        unknown = [name for name in self.policy_kwargs if name not in allowed]
        if unknown:
            raise ValueError(f"policy_kwargs={unknown}; {policy_class.__name__} takes {', '.join(allowed)}")
        own: Any = self.policy_aliases["TabularPolicy"]
        act = self._rules()[0] if policy_class._behaviour is not own._behaviour else None
        if act is not None and act.__module__.startswith("sb3_lecture."):
            raise ValueError(
                f"{policy_class.__name__} overrides _behaviour, but {type(self).__name__} acts by the compiled rule "
                f"{act.__name__}, which would not ask it; override {type(self).__name__}._rules with an act of your own, too"
            )

    def _policy_arguments(self) -> dict[str, Any]:
        """What the policy is built with, besides POLICY_ARGUMENTS."""
        return {"n_columns": self._n_columns}

    @staticmethod
    def _translate_memory(old: dict[str, Any]) -> None:
        """Change the memory of a file that an older version wrote into today's, in place."""

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed the learner, the action space and the env."""
        super().set_random_seed(seed)
        if seed is not None and hasattr(self, "memory"):
            self.memory.random_state()[:] = _random_state(seed)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "memory", "_walk"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "memory"], []

    def set_parameters(
        self, load_path_or_dict: str | TensorDict, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """Load the table and the memory.

        :raises ValueError: if the table was learned in a space of another size
        """
        try:
            super().set_parameters(load_path_or_dict, exact_match, device="cpu")
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            own = tuple(self.policy.table.shape)
            raise ValueError(
                f"The file was learned in another world: this model's table has shape {own} (states, columns), but {error}"
            ) from error

    # ---- what a user reads

    @property
    def q_table(self) -> np.ndarray:
        """The table, float64 [S, A], a view: what is written into it is learned."""
        return self.policy.table.numpy()

    @property
    def exploration_rate(self) -> float:
        """The present ε; what is written here counts for ``predict`` until ``learn`` goes on with its schedule."""
        return float(self.policy.epsilon[0])

    @exploration_rate.setter
    def exploration_rate(self, epsilon: float) -> None:
        check_arguments({"exploration_rate": epsilon}, exploration_rate=Real(0, 1))
        self.policy.epsilon[0] = epsilon

    @property
    def active_backend(self) -> str:
        """Which loop ``learn`` runs: "env" or "compiled"."""
        return self._resolve_backend()[0]

    def action_probabilities(self, observation: Any, deterministic: bool = False) -> np.ndarray:
        """The policy in given states, float64 [n, A]: that of ``predict`` with the same ``deterministic``."""
        return self.policy.action_probabilities(observation, deterministic)

    def _resolve_backend(self) -> tuple[str, CompiledWorld]:
        """The loop that will run, and the world found (or why none was)."""
        if self.env is None:
            raise ValueError("No env: give one to the constructor, to load(path, env=env) or to set_env(env)")
        if self.backend == "env":
            return "env", CompiledWorld(None, None, "backend='env' was asked for")
        world = find_world(self.env, read_p=self.backend == "compiled")
        if world.mdp is not None:
            return "compiled", world
        if self.backend == "compiled":
            raise ValueError(f"backend='compiled' is not possible: {world.reason}; use backend='env' or 'auto'")
        return "env", world

    # ---- learning

    def learn(
        self: SelfTabular,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfTabular:
        """Learn from experience.

        :param total_timesteps: env steps to take, all envs together
        :param callback: SB3's callbacks; False from one of them stops
        :param log_interval: episodes between two log tables; None: none
        :param tb_log_name: name of the run in TensorBoard; None: the class's name
        :param reset_num_timesteps: whether the step counter and the schedules start anew
        :param progress_bar: whether to show one
        :return: the model
        """
        self._take_up(reset_num_timesteps)
        fresh = reset_num_timesteps or self._last_obs is None
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        assert self.env is not None and self._last_obs is not None
        backend, world = self._resolve_backend()
        self.logger.info(f"{type(self).__name__} runs {backend}: {world.reason}")
        if fresh or self._walk is None or self._walk.state.shape[0] != self.n_envs:
            self._last_obs = self._restart(backend, self._last_obs, np.ones(self.n_envs, np.bool_))  # type: ignore[arg-type]
            self._begin_episodes(self.policy.index(self._last_obs))
        self._check_table(self._agent())
        callback.on_training_start(locals(), globals())
        callback.on_rollout_start()
        if backend == "compiled":
            self._learn_compiled(world, callback, total_timesteps, log_interval)
        else:
            self._learn_env(callback, total_timesteps, log_interval)
        callback.on_rollout_end()
        callback.on_training_end()
        return self

    def _restart(self, backend: str, observations: np.ndarray, begun: np.ndarray) -> np.ndarray:
        """An algorithm that starts its episodes elsewhere than the env does, overrides this and ``_world``.

        :param backend: the loop that runs
        :param observations: of all envs
        :param begun: bool [n], the envs that have just been reset
        :return: the observations of all envs, where these stand now
        """
        return observations

    def _world(self, world: CompiledWorld) -> World:
        """The law as the compiled loop reads it."""
        assert world.mdp is not None
        return make_world(world.mdp, world.max_steps)

    def _begin_episodes(self, states: np.ndarray) -> None:
        """All envs were reset: forget what belonged to the running episodes."""
        self._walk = make_walk(states, max(1, self._stats_window_size))
        fresh = self._make_memory()
        for name in self._per_env:
            getattr(self.memory, name).numpy()[:] = getattr(fresh, name)

    def _agent(self) -> Agent:
        for name in POLICY_ARGUMENTS:  # an attribute that was changed counts from here on, for predict, too
            setattr(self.policy, name, getattr(self, name))
        return Agent(
            q=self.policy.table.numpy(), tries=self.policy.tries.numpy(), updates=self.policy.updates.numpy(),
            rng=self.memory.random_state(), epsilon=self.policy.epsilon.numpy(), alpha=self._step_size(),
            gamma=float(self.gamma),
            exploration=(0,) * EXPLORATIONS[self.exploration], temperature=float(self.temperature), ucb_c=float(self.ucb_c),
            memory=self.memory.arrays(), options=self._options(),
        )  # fmt: skip

    def _step_size(self) -> float:
        if isinstance(self.learning_rate, str):
            return -1.0  # 1/N
        alpha = float(self.lr_schedule(self._current_progress_remaining))
        if not 0.0 <= alpha <= self._largest_rate or math.isinf(alpha):
            raise ValueError(
                f"learning_rate: the schedule says {alpha} with {self._current_progress_remaining:g} of the run left; a table "
                f"learns with a step size from 0 to {self._largest_rate:g}"
            )
        return alpha

    def _check_table(self, agent: Agent) -> None:
        """Refuse to go on with values that are none.

        :raises ValueError: naming the entry
        """
        if not np.isfinite(agent.q).all():
            s, column = np.argwhere(~np.isfinite(agent.q))[0].tolist()
            before = self.num_timesteps == self._num_timesteps_at_start
            raise ValueError(
                f"The table holds {agent.q[s, column]} in state {s}, column {column}, "
                + ("before learning: it was written there" if before else
                   f"after {self.num_timesteps} timesteps: learning has diverged (try a smaller learning_rate, less λ, or "
                   "another importance sampling), or it was written there")
            )  # fmt: skip

    def _epsilon_schedule(self, total_timesteps: int) -> EpsilonSchedule:
        return EpsilonSchedule(
            float(self.exploration_initial_eps), float(self.exploration_final_eps), self.exploration_fraction * total_timesteps
        )

    def _constant_rate(self) -> Any:
        """The learning rate; where it is a constant schedule, as rl_zoo3 makes of a config's number, that number."""
        return self.learning_rate.val if isinstance(self.learning_rate, ConstantSchedule) else self.learning_rate

    def _steps_to_new_rate(self, total_timesteps: int) -> int:
        """VecEnv steps until a scheduled learning rate is read again: at every thousandth of the run."""
        if not callable(self._constant_rate()):
            return NEVER
        period = max(1, total_timesteps // 1000)
        return -(-(period - self.num_timesteps % period) // self.n_envs)

    def _after_kernel(self, agent: Agent) -> None:
        """Look at what the rules left in the memory; an algorithm raises here what a rule cannot raise."""

    def _learn_compiled(
        self, world: CompiledWorld, callback: BaseCallback, total_timesteps: int, log_interval: int | None
    ) -> None:
        """World and learner in one compiled loop, stopped wherever a callback or the logger has something to do."""
        assert self.env is not None and self._walk is not None
        strangers = unknown_callbacks(callback, self.n_envs, total_timesteps)
        if strangers:
            self.logger.info(f"every step stops for {', '.join(strangers)}: it has no steps_until_call()")
        law, n, files = self._world(world), self.n_envs, monitors(self.env)
        walk = self._walk if not any(files) else with_window(self._walk, WRITE_EVERY)
        walk.state[:] = self.policy.index(self._last_obs)
        read_episodes(self.env, walk)  # the env loop may have gone on in between
        announce()
        run = compile_rules(*self._rules()).run
        schedule, agent = self._epsilon_schedule(total_timesteps), self._agent()
        logs = log_interval if self.logger.output_formats else None
        unchecked = 0
        while self.num_timesteps < total_timesteps:
            call = next_call(callback, n, total_timesteps)
            new_rate = self._steps_to_new_rate(total_timesteps)
            left = -(-(total_timesteps - self.num_timesteps) // n)
            episodes = min(call.episodes, WRITE_EVERY - n if any(files) else NEVER)
            if logs is not None:
                episodes = min(episodes, logs - self._episode_num % logs)
            walk.ended[0] = 0
            taken = run(
                agent, law, walk, schedule, self.num_timesteps, min(call.steps, new_rate, left, KERNEL_STEPS), max(1, episodes)
            )
            self._after_kernel(agent)
            skip_calls(callback, taken - 1, n)
            self.num_timesteps += taken * n
            unchecked = self._check_after(unchecked + taken, agent)
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            if taken == new_rate:
                agent = agent._replace(alpha=self._step_size())
            self._last_obs = walk.state + self.policy.index.start
            put_states(self.env, walk)
            before = self._episode_num
            infos = self._episode_infos(walk, files)
            actions = walk.action + int(self.action_space.start)
            callback.update_locals(
                {"actions": actions, "rewards": walk.reward, "dones": walk.terminated | walk.truncated, "infos": infos,
                 "new_obs": self._last_obs}
            )  # fmt: skip
            write_episodes(self.env, walk)  # a callback may save the model, and the envs with it
            if not callback.on_step():
                break
            if logs is not None and self._episode_num // logs > before // logs:
                self.dump_logs()
        write_episodes(self.env, walk)
        self._check_table(agent)

    def _check_after(self, steps: int, agent: Agent) -> int:
        """Look at the table once in as many steps as it has entries, which costs next to nothing; returns steps not seen."""
        if steps < agent.q.size:
            return steps
        self._check_table(agent)
        return 0

    def _episode_infos(self, walk: Walk, files: list[Any]) -> list[dict[str, Any]]:
        """Count the ended episodes as Monitor would, and return the infos of the last step."""
        assert self.ep_info_buffer is not None
        count, window = int(walk.ended[0]), walk.score.shape[0]
        self._episode_num += count
        infos: list[dict[str, Any]] = [{} for _ in range(self.n_envs)]
        now = time.time()
        elapsed = round(now - self.start_time / 1e9, 6)
        which = np.arange(count - min(count, window), count) % window
        scores, lengths, envs = (array[which].tolist() for array in (walk.score, walk.length, walk.who))
        if any(files):
            note_episodes(files, scores, lengths, envs, now)
        kept = self.ep_info_buffer.maxlen or count
        for score, length, i in list(zip(scores, lengths, envs, strict=True))[-kept:]:
            episode = {"r": round(score, 6), "l": length, "t": elapsed}
            self.ep_info_buffer.append(episode)
            if walk.terminated[i] or walk.truncated[i]:
                infos[i]["episode"] = episode
        for i, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(walk.truncated[i])
            if walk.terminated[i] or walk.truncated[i]:
                info["terminal_observation"] = walk.last_state[i] + self.policy.index.start
        return infos

    def _learn_env(self, callback: BaseCallback, total_timesteps: int, log_interval: int | None) -> None:
        """SB3's VecEnv steps; the rules act and learn, one compiled call each."""
        env, n = self.env, self.n_envs
        assert env is not None and self._last_obs is not None
        act_batch, learn_batch = compile_rules(*self._rules())[1:]
        schedule, agent = self._epsilon_schedule(total_timesteps), self._agent()
        index, start = self.policy.index, int(self.action_space.start)
        if self._walk is not None:  # where no object counts them, the compiled loop will not know of the episodes that follow
            self._walk.elapsed[:], self._walk.total[:] = 0, 0.0
        step = step_in_turn if type(env) is DummyVecEnv else step_together
        state, action, unchecked = index(self._last_obs), np.zeros(n, np.int64), 0
        while self.num_timesteps < total_timesteps:
            new_rate = self._steps_to_new_rate(total_timesteps)
            bad = act_batch(agent, schedule, self.num_timesteps, state, action)
            if bad >= 0:
                self._refuse(BAD_STATE, bad, self._last_obs, action, None)
            actions = action + start
            new_obs, rewards, terminated, truncated, final_obs, infos = step(env, actions)  # type: ignore[arg-type]
            next_state = index(new_obs)
            last_state = next_state if final_obs is new_obs else index(final_obs)
            verdict, bad = learn_batch(agent, state, action, rewards, last_state, terminated, truncated)
            if verdict != FINE:
                self._refuse(verdict, bad, final_obs, actions, rewards)
            self._after_kernel(agent)
            self.num_timesteps += n
            unchecked = self._check_after(unchecked + 1, agent)
            dones = terminated | truncated
            if dones.any():
                new_obs = self._restart("env", new_obs, dones)
                next_state = index(new_obs)
            self._last_obs, state = new_obs, next_state
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            if new_rate == 1:
                agent = agent._replace(alpha=self._step_size())
            before = self._episode_num
            self._episode_num += int(dones.sum())
            if self._episode_num > before:
                self._update_info_buffer(infos, dones)
            callback.update_locals(locals())
            if not callback.on_step():
                break
            if log_interval is not None and self._episode_num // log_interval > before // log_interval:
                self.dump_logs()

        self._check_table(agent)

    def _refuse(self, verdict: int, i: int, observation: Any, actions: Any, rewards: Any) -> None:
        """Say what an env has given that cannot be learned from.

        :raises ValueError: always
        """
        if verdict == BAD_REWARD:
            raise ValueError(
                f"Env {i} gave the reward {rewards[i]} for action {actions[i]}, with observation {observation[i]}, after "
                f"{self.num_timesteps} timesteps; rewards must be finite numbers"
            )
        raise ValueError(f"Env {i} gave the observation {observation[i]}, which is outside {self.observation_space}")

    def dump_logs(self) -> None:
        """Write the averages of the last episodes, as SB3's learners do."""
        record_progress(self)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)


def _random_state(seed: int | None) -> np.ndarray:
    """Two random streams from a seed (None: from the system), uint64 [2]."""
    return np.random.SeedSequence(seed).generate_state(2, np.uint64)
