"""The one loop of the evolutionary learners: ask for a population, let it play, tell its scores.

A generation of the search is

    candidates = ask()          [P, n_params]
    fitness = play(candidates)  [P], mean undiscounted return over ``n_eval_episodes`` whole episodes each
    tell(candidates, fitness)

and an algorithm is its ``_ask`` and its ``_tell``. The population plays through a VecEnv: with as many environments as
candidates, environment i plays candidate i, and the networks of all of them run as one (``NetworkStack``). With fewer
environments a candidate is handed to whichever is free; with more, some idle.

Counting: ``num_timesteps`` counts the steps of evaluated episodes and nothing else. An environment that waits for the
others to end is stepped on, as a VecEnv must be, but what it does is neither scored nor counted; the environments are reset
before the next generation. Callbacks are called at every step of the VecEnv in which at least one environment's step counts:
with one environment ``n_calls`` is ``num_timesteps``, with n a call stands for 1 to n timesteps, so that callbacks which
count calls (SB3's ``eval_freq``, ``save_freq``) act less often than every n · freq timesteps; ``EveryNTimesteps`` counts
timesteps. An episode cut off by a time limit counts with the return it has: fitness is the return of an episode as the
environment ends it, there is no value to bootstrap with.

A fitness that is NaN or infinite ranks last, whatever its sign: an environment that breaks must not be what is selected for.
How many there were in a generation is logged as ``fitness/non_finite``; where nothing else is left, that is an error.

Randomness: the noise of generation g is drawn from a generator seeded by (seed, g), and so is the environments' reset before
it when a seed is given. With ``common_random_numbers`` the k-th episode of every candidate is reset with the k-th seed of the
generation: scores are compared, and the variance of a difference falls where both sides meet the same chance. So the
search's state is a handful of arrays, and a run that is killed, loaded and continued
(``learn(..., reset_num_timesteps=False)``) replays the generation it was in and goes on as if nothing had happened.
"""

from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import FLAG, Integer, check_arguments, naming_memory
from sb3_lecture.common.fitness import rank_non_finite_last
from sb3_lecture.common.logs import record_progress
from sb3_lecture.common.spaces import check_zero_based
from sb3_lecture.evolutionary.policies import Array, EvolutionLinearPolicy, EvolutionPolicy, NetworkStack
from sb3_lecture.evolutionary.population_env import NextStepVecEnv, check_one_by_one, make_population_env

__all__ = ["PopulationAlgorithm"]

SelfPopulationAlgorithm = TypeVar("SelfPopulationAlgorithm", bound="PopulationAlgorithm")


class PopulationAlgorithm(SafeSave, BaseAlgorithm):
    """What the evolutionary learners share; see the module's text.

    :param policy: "MlpPolicy", "LinearPolicy" or a subclass of EvolutionPolicy
    :param env: environment; an id gets one environment a candidate; None only when loading
    :param population_size: candidates a generation P
    :param n_eval_episodes: episodes a candidate plays; its fitness is their mean return (default 1)
    :param common_random_numbers: start the k-th episode of every candidate of a generation from the same seed: candidates
        then differ by what they do, not by where they began (default False)
    :param normalize_observations: standardise observations by the mean and variance of all that earlier generations saw,
        the same for the whole population, clipped at 5 deviations (default False)
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device of the policy (default "cpu"); a population always runs on the CPU
    :raises ValueError: if the population or the number of episodes is too small, or the policy is of another kind
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EvolutionPolicy,
        "LinearPolicy": EvolutionLinearPolicy,
    }
    policy: EvolutionPolicy  # type: ignore[assignment]
    min_population = 2

    def __init__(
        self,
        policy: str | type[EvolutionPolicy],
        env: GymEnv | str | None,
        population_size: int,
        n_eval_episodes: int = 1,
        common_random_numbers: bool = False,
        normalize_observations: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "cpu",
    ) -> None:
        check_arguments(
            locals(), population_size=Integer(self.min_population), n_eval_episodes=Integer(1), common_random_numbers=FLAG,
            normalize_observations=FLAG,
        )  # fmt: skip
        if not isinstance(policy, str) and not issubclass(policy, EvolutionPolicy):
            raise ValueError(
                f"policy={policy} is no EvolutionPolicy; use one of {list(self.policy_aliases)} or a subclass of it"
            )
        super().__init__(
            policy,  # type: ignore[arg-type]
            make_population_env(env, population_size, one_by_one=common_random_numbers) if isinstance(env, str) else env,
            learning_rate=0.0,  # only evolution strategies have one
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.Box, spaces.Discrete),
        )
        self.population_size = population_size
        self.n_eval_episodes = n_eval_episodes
        self.common_random_numbers = common_random_numbers
        self.normalize_observations = normalize_observations
        self.generation = 0
        self._seen = np.zeros(0)  # sums of this generation's observations and of their squares, [2, features]
        self._n_seen = 0
        self._n_non_finite = 0  # fitness of this generation that is NaN or infinite
        self._starts = np.random.default_rng(0)  # of this generation's common starts
        self._search_seed = int(np.random.randint(2**31)) if seed is None else seed

    @naming_memory("population_size")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)
        self.n_params = sum(parameter.numel() for parameter in self.policy.parameters())

    @abstractmethod
    def _ask(self, rng: np.random.Generator) -> Array:
        """Draw the candidates of this generation, float32 [P, n_params]; the same for the same state and generator."""

    @abstractmethod
    def _tell(self, candidates: Array, fitness: Array) -> None:
        """Learn from the candidates' fitness, [P]; leave the policy to act with in ``self.policy``."""

    def _rng(self) -> np.random.Generator:
        """The generator of this generation's noise."""
        return np.random.default_rng([self._search_seed, self.generation])

    def _reset_one(self, env: VecEnv, i: int, seed: int) -> Any:
        """Begin an episode of environment i from a seed; return its first observation as the policy sees it."""
        observation, _ = env.env_method("reset", seed=seed, indices=[i])[0]
        return observation if self._vec_normalize_env is None else self._vec_normalize_env.normalize_obs(observation)

    def learn(
        self: SelfPopulationAlgorithm,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfPopulationAlgorithm:
        """Run generations until ``total_timesteps``; the last one is completed.

        :param total_timesteps: environment steps of evaluated episodes
        :param callback: called at every step of the VecEnv; stops the training by returning False
        :param log_interval: generations between two lines of the log
        :param tb_log_name: name of the tensorboard run (default the algorithm's)
        :param reset_num_timesteps: start counting (and the logs) anew; the search goes on in any case
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            callback.on_rollout_start()
            if not self._run_generation(callback):
                break
            callback.on_rollout_end()
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            if log_interval is not None and self.generation % log_interval == 0:
                self.dump_logs()
        callback.on_training_end()
        return self

    def _run_generation(self, callback: BaseCallback) -> bool:
        """Ask, play, tell; return False if the callback stopped the training, and nothing was learnt from what was played."""
        rng = self._rng()
        candidates = self._ask(rng)
        self._seen = np.zeros((2, self.policy.features_dim))
        self._n_seen = 0
        self._n_non_finite = 0
        self._starts = np.random.default_rng([self._search_seed, self.generation, 1])
        if self.seed is not None and self.env is not None:
            self.env.seed(int(rng.integers(2**31)))
        fitness = self.play(candidates, self.n_eval_episodes, callback)
        if fitness is None or not self._select(candidates, fitness, callback):
            return False
        if self.normalize_observations:  # only now: all candidates of a generation see the world alike
            self.policy.count_observations(self._seen, self._n_seen)
        self._tell(candidates, fitness)
        self.generation += 1
        self._n_updates += 1
        self.logger.record("train/generation", self.generation)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        finite = fitness[np.isfinite(fitness)]
        self.logger.record("train/fitness_mean", float(finite.mean()))
        self.logger.record("train/fitness_max", float(finite.max()))
        self.logger.record("train/fitness_std", float(finite.std()))
        self.logger.record("fitness/non_finite", self._n_non_finite)
        return True

    def _select(self, candidates: Array, fitness: Array, callback: BaseCallback) -> bool:
        """Let some candidates play more before the generation is judged; return False if the callback stopped it."""
        return True

    def play(self, candidates: Array, n_episodes: int, callback: BaseCallback) -> Array | None:
        """Let every candidate play whole episodes.

        :param candidates: parameters, [C, n_params]
        :param n_episodes: episodes of each
        :param callback: called at every step of the VecEnv
        :return: mean return of each candidate over its episodes, float64 [C], −∞ where that is not finite; None if the
            callback stopped it
        :raises ValueError: if there is no environment, or no candidate's fitness is finite
        """
        env = self.env
        if env is None:
            raise ValueError("There is no environment to play in; give one to the constructor, to load() or to set_env()")
        if self.common_random_numbers:
            check_one_by_one(env)
        seeds = self._starts.integers(2**31, size=n_episodes).tolist()  # [n_episodes], of the common starts
        resets_late = isinstance(env.unwrapped, NextStepVecEnv)
        n_envs, n_candidates, n_jobs = env.num_envs, len(candidates), len(candidates) * n_episodes
        job = np.arange(n_envs)  # [n_envs], the episode that each env plays; number j belongs to candidate j % C
        playing = job < n_jobs  # [n_envs]
        next_job = n_envs
        networks = NetworkStack(self.policy, candidates[job % n_candidates])
        returns = np.zeros(n_jobs)
        self._last_obs = env.reset()  # type: ignore[assignment]
        if self.common_random_numbers:
            for i in np.flatnonzero(playing).tolist():
                self._last_obs[i] = self._reset_one(env, i, seeds[job[i] // n_candidates])  # type: ignore[index]
        running_return = np.zeros(n_envs)
        resetting = np.zeros(n_envs, dtype=bool)  # [n_envs], is this step only the reset of the next episode?
        while playing.any():
            features = self.policy.features(self._last_obs)  # type: ignore[arg-type]
            new_obs, rewards, dones, infos = env.step(networks.actions(features))
            counted = playing & ~resetting  # [n_envs]
            n_counted = int(np.count_nonzero(counted))
            self.num_timesteps += n_counted
            if self.normalize_observations:
                seen = features[counted].astype(np.float64)
                seen = seen[np.isfinite(seen).all(axis=1)]
                self._seen += seen.sum(axis=0), (seen**2).sum(axis=0)
                self._n_seen += len(seen)
            if self._vec_normalize_env is not None:
                rewards = self._vec_normalize_env.get_original_reward()  # candidates are ranked by what the env gives
            running_return += rewards
            resetting = dones if resets_late else resetting
            dones = dones & counted

            callback.update_locals(locals())
            if n_counted and not callback.on_step():
                return None
            if dones.any():
                ended = np.flatnonzero(dones)
                self._update_info_buffer([infos[i] for i in ended], dones[ended])
                returns[job[ended]] = running_return[ended]
                for i in ended.tolist():
                    playing[i] = next_job < n_jobs
                    if playing[i]:
                        job[i] = next_job
                        networks.replace(i, candidates[next_job % n_candidates])
                        if self.common_random_numbers:
                            new_obs[i] = self._reset_one(env, i, seeds[next_job // n_candidates])  # type: ignore[index]
                        next_job += 1
                self._episode_num += len(ended)
                running_return[ended] = 0.0
            self._last_obs = new_obs  # type: ignore[assignment]
        fitness, n_non_finite = rank_non_finite_last(returns.reshape(n_episodes, n_candidates).mean(axis=0))
        self._n_non_finite += n_non_finite
        return fitness

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_seen", "_n_seen", "_n_non_finite", "_starts"]

    def dump_logs(self) -> None:
        """Write the log of the last generation."""
        record_progress(self)
        self.logger.dump(step=self.num_timesteps)
