"""TabularAlgorithm: the one learning loop of all tabular methods that learn from experience, and what it saves.

The loop has two forms with one meaning. ``env``: SB3's VecEnv steps, two compiled calls a step act and learn. ``compiled``:
where the env carries its law, world and learner run together in one compiled loop, from one callback's turn to the next.
Both call the same two rules of the algorithm (see ``kernels``), in the same order, with the same random numbers: every env
acts, every env steps, every env learns, then the callback is called.

Deviation from SB3: the callback of a step is called after the step was learned from, not before.
"""

import sys
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
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, safe_mean
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture.common.stepping import step_in_turn, step_together
from sb3_lecture.tabular.backend import (
    BACKENDS,
    CompiledWorld,
    find_world,
    monitors,
    put_states,
)
from sb3_lecture.tabular.callback_calls import NEVER, next_call, skip_calls, unknown_callbacks
from sb3_lecture.tabular.kernels import (
    EXPLORATIONS,
    Agent,
    EpsilonSchedule,
    Nothing,
    Walk,
    compile_rules,
    make_walk,
    make_world,
)
from sb3_lecture.tabular.policy import TabularPolicy

SelfTabular = TypeVar("SelfTabular", bound="TabularAlgorithm")
Rules = tuple[Callable[..., int], Callable[..., None]]

SAMPLE_AVERAGE = "1/N"  #: learning_rate of the sample average
KERNEL_STEPS = 10_000_000  # the longest call of the compiled loop: Ctrl-C acts in between
WRITE_EVERY = 4096  # episodes between two writes of a Monitor's file


class Memory(th.nn.Module):
    """What an algorithm remembers besides its table, as torch buffers, so that SB3 saves it.

    :param rng: uint64 [2], the random state (kept as int64: torch knows few operations on uint64)
    :param fields: the algorithm's arrays
    :param per_env: the fields that hold one entry an env; of another number of envs, a file's are not taken over
    """

    def __init__(self, rng: np.ndarray, fields: NamedTuple, per_env: tuple[str, ...]) -> None:
        super().__init__()
        self._type: Any = type(fields)
        self._per_env = per_env
        self.register_buffer("rng", th.from_numpy(rng.view(np.int64).copy()))
        for name, array in fields._asdict().items():
            self.register_buffer(name, th.from_numpy(array))

    def random_state(self) -> np.ndarray:
        """The random state, uint64 [2], a view."""
        return self.rng.numpy().view(np.uint64)  # type: ignore[operator]

    def arrays(self) -> NamedTuple:
        """The algorithm's named tuple, of views."""
        return self._type(**{name: getattr(self, name).numpy() for name in self._type._fields})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self._per_env:
            own = getattr(self, name)
            if prefix + name in state_dict and state_dict[prefix + name].shape != own.shape:
                state_dict[prefix + name] = own
        super()._load_from_state_dict(state_dict, prefix, *args)


class TabularAlgorithm(BaseAlgorithm):
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
    :param policy_kwargs: further arguments of the policy
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
        for name in ("gamma", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)} is outside [0, 1]")
        check_choice("exploration", self.exploration, tuple(EXPLORATIONS))
        check_choice("backend", self.backend, BACKENDS)
        if not self.temperature > 0.0:
            raise ValueError(f"temperature={self.temperature}; it must be above 0 (small is greedy)")
        rate: Any = self._constant_rate()
        if isinstance(rate, str) and rate != SAMPLE_AVERAGE:
            raise ValueError(f"learning_rate={rate!r}; allowed: a number, a schedule, or {SAMPLE_AVERAGE!r}")
        if isinstance(rate, (int, float)) and not 0.0 < rate <= 1.0:
            raise ValueError(f"learning_rate={rate}; a table learns with a step size in (0, 1]")

    # ---- what SB3 builds, saves and loads

    def _setup_model(self) -> None:
        self.lr_schedule = FloatSchedule(0.0 if isinstance(self.learning_rate, str) else self.learning_rate)
        super().set_random_seed(self.seed)
        policy_class: Any = self.policy_class
        self.policy = policy_class(self.observation_space, self.action_space, **self._policy_arguments(), **self.policy_kwargs)
        self.policy.epsilon[0] = self.exploration_initial_eps
        self.memory = Memory(_random_state(self.seed), self._make_memory(), self._per_env)

    def _policy_arguments(self) -> dict[str, Any]:
        return {
            "exploration": self.exploration, "temperature": self.temperature, "ucb_c": self.ucb_c,
            "initial_value": self.initial_value, "n_columns": self._n_columns,
        }  # fmt: skip

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
        """The present ε."""
        return float(self.policy.epsilon[0])

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
        fresh = reset_num_timesteps or self._last_obs is None
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        assert self.env is not None and self._last_obs is not None
        backend, world = self._resolve_backend()
        self.logger.info(f"{type(self).__name__} runs {backend}: {world.reason}")
        if fresh or self._walk is None or self._walk.state.shape[0] != self.n_envs:
            self._begin_episodes(self.policy.index(self._last_obs))
        callback.on_training_start(locals(), globals())
        callback.on_rollout_start()
        if backend == "compiled":
            self._learn_compiled(world, callback, total_timesteps, log_interval)
        else:
            self._learn_env(callback, total_timesteps, log_interval)
        callback.on_rollout_end()
        callback.on_training_end()
        return self

    def _begin_episodes(self, states: np.ndarray) -> None:
        """All envs were reset: forget what belonged to the running episodes."""
        self._walk = make_walk(states, max(1, self._stats_window_size))
        fresh = self._make_memory()
        for name in self._per_env:
            getattr(self.memory, name).numpy()[:] = getattr(fresh, name)

    def _agent(self) -> Agent:
        return Agent(
            q=self.policy.table.numpy(), visits=self.policy.visits.numpy(), rng=self.memory.random_state(),
            epsilon=self.policy.epsilon.numpy(), alpha=self._step_size(), gamma=float(self.gamma),
            exploration=(0,) * EXPLORATIONS[self.exploration], temperature=float(self.temperature), ucb_c=float(self.ucb_c),
            memory=self.memory.arrays(), options=self._options(),
        )  # fmt: skip

    def _step_size(self) -> float:
        if isinstance(self.learning_rate, str):
            return -1.0  # 1/N
        return float(self.lr_schedule(self._current_progress_remaining))

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
        assert self.env is not None and self._walk is not None and world.mdp is not None
        strangers = unknown_callbacks(callback, self.n_envs, total_timesteps)
        if strangers:
            self.logger.info(f"every step stops for {', '.join(strangers)}: it has no steps_until_call()")
        law, walk, n = make_world(world.mdp, world.max_steps), self._walk, self.n_envs
        files = monitors(self.env)
        if any(files):
            walk = walk._replace(
                score=np.zeros(WRITE_EVERY), length=np.zeros(WRITE_EVERY, np.int64), who=np.zeros(WRITE_EVERY, np.int64)
            )
        run = compile_rules(*self._rules()).run
        schedule, agent = self._epsilon_schedule(total_timesteps), self._agent()
        logs = log_interval if self.logger.output_formats else None
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
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            if taken == new_rate:
                agent = agent._replace(alpha=self._step_size())
            self._last_obs = walk.state + self.policy.index.start
            put_states(self.env, walk.state.tolist())
            before = self._episode_num
            infos = self._episode_infos(walk, files)
            actions = walk.action + int(self.action_space.start)
            callback.update_locals(
                {"actions": actions, "rewards": walk.reward, "dones": walk.terminated | walk.truncated, "infos": infos,
                 "new_obs": self._last_obs}
            )  # fmt: skip
            if not callback.on_step():
                break
            if logs is not None and self._episode_num // logs > before // logs:
                self.dump_logs()

    def _episode_infos(self, walk: Walk, files: list[Any]) -> list[dict[str, Any]]:
        """Count the ended episodes as Monitor would, and return the infos of the last step."""
        assert self.ep_info_buffer is not None
        count, window = int(walk.ended[0]), walk.score.shape[0]
        self._episode_num += count
        infos: list[dict[str, Any]] = [{} for _ in range(self.n_envs)]
        now = time.time()
        elapsed = round(now - self.start_time / 1e9, 6)
        for k in range(count - min(count, window), count):
            k %= window
            episode = {"r": round(float(walk.score[k]), 6), "l": int(walk.length[k]), "t": elapsed}
            self.ep_info_buffer.append(episode)
            i = int(walk.who[k])
            if walk.terminated[i] or walk.truncated[i]:
                infos[i]["episode"] = episode
            if files and files[i] is not None:
                files[i].results_writer.write_row({**episode, "t": round(now - files[i].t_start, 6)})
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
        step = step_in_turn if type(env) is DummyVecEnv else step_together
        state, action = index(self._last_obs), np.zeros(n, np.int64)
        while self.num_timesteps < total_timesteps:
            new_rate = self._steps_to_new_rate(total_timesteps)
            act_batch(agent, schedule, self.num_timesteps, state, action)
            actions = action + start
            new_obs, rewards, terminated, truncated, final_obs, infos = step(env, actions)  # type: ignore[arg-type]
            next_state = index(new_obs)
            last_state = next_state if final_obs is new_obs else index(final_obs)
            learn_batch(agent, state, action, rewards, last_state, terminated, truncated)
            self._after_kernel(agent)
            self.num_timesteps += n
            self._last_obs, state, dones = new_obs, next_state, terminated | truncated
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

    def dump_logs(self) -> None:
        """Write the averages of the last episodes, as SB3's learners do."""
        assert self.ep_info_buffer is not None
        seconds = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        if len(self.ep_info_buffer) > 0:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        self.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)


def check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuse a value that is not one of those allowed.

    :raises ValueError: naming the value and what is allowed
    """
    if value not in allowed:
        raise ValueError(f"{name}={value!r}; allowed: {', '.join(map(repr, allowed))}")


def _random_state(seed: int | None) -> np.ndarray:
    """Two random streams from a seed (None: from the system), uint64 [2]."""
    return np.random.SeedSequence(seed).generate_state(2, np.uint64)
