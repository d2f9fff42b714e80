"""What the learners that write a game out share: the tree, the loop with SB3's callbacks, files.

One timestep is one iteration of the method. The envs are never stepped; they only bring the rules.
"""

from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import check_arguments
from sb3_lecture.common.logs import record_progress
from sb3_lecture.exact.exploitability_callback import rules_of
from sb3_lecture.exact.exploitability_tree import GameTree
from sb3_lecture.games.policy import StrategyPolicy

SelfTree = TypeVar("SelfTree", bound="TreeAlgorithm")

NO_RULES = (
    "{} needs the world's law: an env with the rules of a game of hidden information, such as Lecture/KuhnPoker-v0 or "
    "Lecture/LeducPoker-v0"
)


class TreeAlgorithm(SafeSave, BaseAlgorithm):
    """The base of CFR and its kin.

    :param policy: "StrategyPolicy" ("MlpPolicy" is another name of it)
    :param env: an env of a game with hidden information, its id, or a VecEnv; its opponent does not matter
    :param policy_kwargs: none are known
    :param stats_window_size: accepted for SB3's sake
    :param tensorboard_log: folder of the TensorBoard log; None: none
    :param verbose: 0 silent, 1 log tables
    :param device: accepted for SB3's sake; a table stays on the CPU
    :param seed: one seed, one result
    :param _init_setup_model: whether to build the table at once
    :raises ValueError: if an argument is out of its range, the env states no such rules, or the game is too large
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"StrategyPolicy": StrategyPolicy, "MlpPolicy": StrategyPolicy}
    policy: StrategyPolicy
    _whole_at = "step"
    _tree: GameTree | None = None

    def __init__(
        self,
        policy: str | type[BasePolicy] = "StrategyPolicy",
        env: GymEnv | str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        device: th.device | str = "auto",
        seed: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(locals())
        super().__init__(
            policy, env, 0.0, policy_kwargs, stats_window_size, tensorboard_log, verbose,  # type: ignore[arg-type]
            device="cpu", support_multi_env=True, seed=seed,
        )  # fmt: skip
        if self.policy_kwargs:
            raise ValueError(f"policy_kwargs={self.policy_kwargs}: a strategy has no arguments")
        self.n_infosets = 0  # of the game that the file was learned in
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if isinstance(self.observation_space, spaces.Dict) or not isinstance(self.action_space, spaces.Discrete):
            raise ValueError(f"{NO_RULES.format(type(self).__name__)}, not {self.observation_space}, {self.action_space}")
        self.lr_schedule = lambda _: 0.0
        self.set_random_seed(self.seed)
        if self.n_infosets == 0:
            self.n_infosets = self.tree.n_infosets
        policy_class: Any = self.policy_class
        self.policy = policy_class(self.observation_space, self.action_space, n_infosets=self.n_infosets)
        if self.env is not None:
            self.policy.put_tree(self.tree)

    @property
    def tree(self) -> GameTree:
        """The game of the env, written out.

        :raises ValueError: if there is no env, it states no such rules, or the game is too large
        """
        rules = None if self.env is None else rules_of(self.env)
        if rules is None:
            raise ValueError(NO_RULES.format(type(self).__name__))
        if self._tree is None or self._tree.game is not rules:
            self._tree = GameTree(rules)
        return self._tree

    def _fitting_tree(self) -> GameTree:
        """The tree, if it is that of the policy's game.

        :raises ValueError: if it is another
        """
        tree, policy = self.tree, self.policy
        known = policy.observations.shape == tree.observations.shape and np.array_equal(policy.legal.numpy(), tree.legal)
        if not known or not np.array_equal(policy.observations.numpy(), tree.observations):
            raise ValueError(
                f"the strategy was learned in another game than this {type(tree.game).__name__}: its {policy.n_infosets} "
                f"information sets are not the {tree.n_infosets} here"
            )
        return tree

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_tree"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy"], []

    def _iterate(self, tree: GameTree) -> None:
        """Run one iteration on the policy's arrays."""
        raise NotImplementedError

    @property
    def strategy(self) -> np.ndarray:
        """What the model plays, float64 [I, A]."""
        return self.policy.strategy

    def learn(
        self: SelfTree,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfTree:
        """Run ``total_timesteps`` iterations.

        :param total_timesteps: iterations
        :param callback: SB3's callbacks, called after every iteration; False from one of them stops
        :param log_interval: iterations between two log tables; None: none
        :param tb_log_name: name of the run in TensorBoard; None: the class's name
        :param reset_num_timesteps: whether the counter starts anew (regrets and strategy stay what they are)
        :param progress_bar: whether to show one
        :return: the model
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        tree = self._fitting_tree()
        callback.on_training_start(locals(), globals())
        callback.on_rollout_start()
        infos: list[dict[str, Any]] = [{} for _ in range(self.n_envs)]
        dones, rewards = np.zeros(self.n_envs, np.bool_), np.zeros(self.n_envs)
        while self.num_timesteps < total_timesteps:
            self._iterate(tree)
            self.num_timesteps += 1
            self._n_updates += 1
            self.policy.iteration += 1
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            callback.update_locals({"infos": infos, "dones": dones, "rewards": rewards})
            if not callback.on_step():
                break
            if log_interval is not None and self.num_timesteps % log_interval == 0:
                self.dump_logs()
        callback.on_rollout_end()
        callback.on_training_end()
        return self

    def dump_logs(self) -> None:
        """Write the log of the iterations so far."""
        self.logger.record("train/iterations", int(self.policy.iteration[0]))
        record_progress(self)
        self.logger.dump(step=self.num_timesteps)
