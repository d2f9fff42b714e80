"""What the learners of text share: the world, the loop with SB3's callbacks, demonstrations, comparisons, exact grading.

They ask the env's ``text_world`` for prompts, demonstrations and scores, whole batches at a time; the envs are not stepped.
"""

from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import check_finite, naming_memory
from sb3_lecture.common.logs import record_progress
from sb3_lecture.exact.string_tree import StringTree, TextGrade, grade_text
from sb3_lecture.preferences.comparisons import Comparisons, rank_by, read_comparisons
from sb3_lecture.preferences.losses import ranking_loss
from sb3_lecture.preferences.policies import RewardPolicy, TransformerPolicy, check_text_spaces

SelfText = TypeVar("SelfText", bound="TextLearner")
MOST_STRINGS = 10**6  # V^L up to which a world is graded exactly
CHUNK = 8192  # rows that a network reads at once outside training


class TextLearner(SafeSave, BaseAlgorithm):
    """The base of SFT, RewardModel, DPO and RLHF.

    :param policy: "TransformerPolicy" ("MlpPolicy" is another name of it)
    :param env: ``Lecture/Text-v0`` or another env with a ``text_world``, its id, or a VecEnv of it
    :param learning_rate: step size of Adam, or a schedule of the remaining progress
    :param batch_size: size of a minibatch
    :param policy_kwargs: ``width``, ``n_layers``, ``n_heads`` of the transformers
    :param stats_window_size: accepted for SB3's sake
    :param tensorboard_log: folder of the TensorBoard log; None: none
    :param verbose: 0 silent, 1 log tables
    :param device: torch device
    :param seed: one seed, one result
    :param _init_setup_model: whether to build the networks at once
    :raises ValueError: if an argument is out of its range, or the env holds no text
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "TransformerPolicy": TransformerPolicy, "MlpPolicy": TransformerPolicy,
    }  # fmt: skip
    _whole_at = "step"
    _world: Any = None
    _tree: StringTree | None = None

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        learning_rate: Any,
        batch_size: int,
        policy_kwargs: dict[str, Any] | None,
        stats_window_size: int,
        tensorboard_log: str | None,
        verbose: int,
        device: th.device | str,
        seed: int | None,
    ) -> None:
        super().__init__(
            policy, env, learning_rate, policy_kwargs, stats_window_size, tensorboard_log, verbose, device,  # type: ignore[arg-type]
            support_multi_env=True, seed=seed,
        )  # fmt: skip
        self.batch_size = batch_size
        self.data_seed = -1  # what demonstrations and comparisons are drawn by; −1: not drawn yet

    def _setup_model(self) -> None:
        check_text_spaces(self.observation_space, self.action_space, type(self).__name__)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self._build()

    def _build(self) -> None:
        """Build the networks."""
        self.policy = self._make(self.policy_class)

    def _make(self, policy_class: Any) -> Any:
        return policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs).to(self.device)

    @property
    def world(self) -> Any:
        """The env's world of text.

        :raises ValueError: if there is no env, or it has none
        """
        if self.env is None:
            raise ValueError(f"{type(self).__name__} needs an env: set_env, or load(…, env=…)")
        if not self.env.has_attr("text_world"):
            raise ValueError(
                f"{type(self).__name__} needs the world's law: an env with a text_world such as Lecture/Text-v0, not "
                f"{' '.join(str(self.observation_space).split())}"
            )
        if self._world is None or self._world[0] is not self.env:
            self._world = (self.env, self.env.get_attr("text_world", [0])[0])
        return self._world[1]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_world", "_tree", "_demonstrations", "_comparisons"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    # --- what is shown to it -----------------------------------------------------------------------------------------

    def _generator(self, salt: int) -> np.random.Generator:
        """The chance by which its data were drawn, the same after loading."""
        if self.data_seed < 0:
            self.data_seed = int(th.randint(2**31, (1,)))
        return np.random.default_rng([self.data_seed, salt])

    def _to_tensor(self, array: np.ndarray) -> th.Tensor:
        return th.as_tensor(array, device=self.device)

    @naming_memory("n_demonstrations")
    def _draw_demonstrations(self, n: int) -> tuple[th.Tensor, th.Tensor]:
        """Prompts int64 [n, P] and people's answers int64 [n, L]."""
        prompts, responses = self.world.demonstrations(n, self._generator(0))
        return self._to_tensor(prompts), self._to_tensor(responses)

    @naming_memory("n_comparisons", "n_ranked")
    def _draw_comparisons(self, n: int, k: int, preferences: str | None, writer: TransformerPolicy | None) -> Comparisons:
        """Rankings of a file, or of K answers to each of n prompts by the world's labeller.

        :param writer: whose answers are compared; None: those of people
        """
        world, rng = self.world, self._generator(1)
        if preferences is not None:
            return read_comparisons(preferences, world)
        if writer is None:
            drawn, responses = world.demonstrations(n * k, rng)  # of K answers that fit one prompt: see below
            order = np.lexsort((rng.random(n * k), *drawn.T))
            drawn, responses = drawn[order], responses[order]
            same = (drawn[k - 1 :] == drawn[: n * k - k + 1]).all(axis=1)  # rows i … i + K − 1 answer one prompt
            starts, i = [], 0
            while i < len(same):
                if same[i]:
                    starts.append(i)
                    i += k
                else:
                    i += 1
            if not starts:
                raise ValueError(
                    f"n_comparisons={n!r}: no prompt came up {k} times among {n * k} demonstrations; ask for more"
                )
            rows = np.array(starts)[:, None] + np.arange(k)  # [N, K]
            return rank_by(world, drawn[rows[:, 0]], responses[rows], rng)
        prompts = world.draw_prompts(n, rng)
        chance = th.Generator(device=self.device).manual_seed(self.data_seed)
        repeated = self._to_tensor(np.repeat(prompts, k, axis=0))
        answers = [writer.generate(rows, world.max_length, chance) for rows in repeated.split(CHUNK)]
        return rank_by(world, prompts, th.cat(answers).cpu().numpy().reshape(n, k, -1), rng)

    # --- steps of learning that more than one method takes -----------------------------------------------------------

    def _descend(self, optimizer: th.optim.Optimizer, module: th.nn.Module, loss: th.Tensor, max_norm: float = 1.0) -> None:
        """One step of an optimizer."""
        optimizer.zero_grad()
        loss.backward()
        norm = th.nn.utils.clip_grad_norm_(module.parameters(), max_norm)
        check_finite(float(norm), "the gradient's norm", loss=loss, network=module)
        optimizer.step()

    def _likelihood_loss(self, policy: TransformerPolicy, demonstrations: tuple[th.Tensor, th.Tensor], n: int) -> th.Tensor:
        """−log π(demonstration), the mean over the tokens of n drawn ones."""
        rows = th.randint(len(demonstrations[0]), (n,), device=self.device)
        prompts, responses = demonstrations[0][rows], demonstrations[1][rows]
        return -policy.log_probs(prompts, responses).sum() / (responses != policy.pad).sum()

    def _ranking_loss(self, judge: RewardPolicy, comparisons: Comparisons, n: int) -> tuple[th.Tensor, float]:
        """The loss on n drawn rankings, and the share of pairs that it orders as the labeller did."""
        rows = th.randint(len(comparisons), (n,)).numpy()
        tokens = self._to_tensor(comparisons.tokens(rows))  # [n, K, T]
        scores = judge.score(tokens.flatten(0, 1)).view(tokens.shape[:2])
        better, worse = th.triu_indices(scores.shape[1], scores.shape[1], offset=1)
        return ranking_loss(scores), float((scores[:, better] > scores[:, worse]).float().mean())

    # --- exact grading -----------------------------------------------------------------------------------------------

    #: what ``exact_progress`` is, for a picture
    progress_label = "J = E[score] − β KL"

    @property
    def is_enumerable(self) -> bool:
        """Whether the world's responses are few enough to enumerate."""
        return self.world.n_words**self.world.max_length <= MOST_STRINGS

    def exact_progress(self) -> tuple[float, float]:
        """How good the model is, exactly, and the best that can be."""
        raise NotImplementedError

    def summary(self) -> str:
        """Say how good the model is, in one line; where nothing is known exactly, how many steps it learned."""
        return f"{type(self).__name__}: {self.num_timesteps} steps; the answers are too many to enumerate, so no exact grade"

    @property
    def tree(self) -> StringTree:
        """All responses of the world.

        :raises ValueError: if they are too many to enumerate
        """
        if self._tree is None:
            self._tree = StringTree(self.world.n_words, self.world.max_length, self.world.pad)
        return self._tree

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Prepare data, and take the steps that come before the loop."""

    def _iterate(self) -> int:
        """Learn from one batch; return how many timesteps it was."""
        raise NotImplementedError

    def learn(
        self: SelfText,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 10,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfText:
        """Learn for ``total_timesteps``; the class says what one is.

        :param total_timesteps: how many
        :param callback: SB3's callbacks, called after every batch; False from one of them stops
        :param log_interval: batches between two log tables; None: none
        :param tb_log_name: name of the run in TensorBoard; None: the class's name
        :param reset_num_timesteps: whether the counter starts anew
        :param progress_bar: whether to show one
        :return: the model
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        self.policy.set_training_mode(True)
        self._begin()
        callback.on_training_start(locals(), globals())
        callback.on_rollout_start()
        infos: list[dict[str, Any]] = [{} for _ in range(self.n_envs)]
        dones, rewards, batches = np.zeros(self.n_envs, np.bool_), np.zeros(self.n_envs), 0
        while self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self._update_learning_rate(self.policy.optimizer)
            self.num_timesteps += self._iterate()
            self._n_updates += 1
            batches += 1
            callback.update_locals({"infos": infos, "dones": dones, "rewards": rewards})
            if not callback.on_step():
                break
            if log_interval is not None and batches % log_interval == 0:
                self.dump_logs()
        callback.on_rollout_end()
        callback.on_training_end()
        self.policy.set_training_mode(False)
        return self

    def dump_logs(self) -> None:
        """Write the log so far."""
        record_progress(self)
        self.logger.dump(step=self.num_timesteps)


def prefix_observations(world: Any, tree: StringTree) -> np.ndarray:
    """What every prefix of a response to every prompt looks like: int64 [X, M, P + L]."""
    x, m = len(world.prompts), tree.n_prefixes
    prompts = np.repeat(world.prompts[:, None], m, axis=1)
    return np.concatenate([prompts, np.repeat(tree.prefixes[None], x, axis=0)], axis=2)


@th.no_grad()
def exact_log_next(policy: Any, world: Any, tree: StringTree) -> np.ndarray:
    """Log π(token | prompt, prefix) of any SB3 policy with a Categorical distribution: float64 [X, M, V]."""
    observations = prefix_observations(world, tree)
    x, m, length = observations.shape
    policy.set_training_mode(False)
    rows = []
    for part in np.array_split(observations.reshape(-1, length), max(1, x * m // CHUNK)):
        tensor = policy.obs_to_tensor(part)[0]
        rows.append(policy.get_distribution(tensor).distribution.logits.double().cpu())
    return th.log_softmax(th.cat(rows), dim=1).numpy().reshape(x, m, -1)


def exact_scores(world: Any, tree: StringTree) -> np.ndarray:
    """The judge's score of every response to every prompt, at its leaf: float64 [X, M, V]."""
    responses = tree.responses()
    return tree.spread(np.stack([world.score(np.tile(p, (len(responses), 1)), responses) for p in world.prompts]))


@th.no_grad()
def exact_rewards(judge: RewardPolicy, world: Any, tree: StringTree) -> np.ndarray:
    """r̂ of every response to every prompt, at its leaf: float64 [X, M, V]."""
    responses, scored = tree.responses(), []
    for prompt in world.prompts:
        tokens = np.concatenate([np.tile(prompt, (len(responses), 1)), responses], axis=1)
        parts = [judge.score(part) for part in th.as_tensor(tokens, device=judge.device).split(CHUNK)]
        scored.append(th.cat(parts).double().cpu().numpy())
    return tree.spread(np.stack(scored))


def grade(model: Any, reference: Any, beta: float) -> TextGrade:
    """Grade any SB3 model on text against the optimum of RLHF, exactly.

    :param model: an SB3 model with an env of text that can be enumerated
    :param reference: π_SFT, a policy
    :param beta: β > 0
    :raises ValueError: if the responses are too many
    """
    world = model.env.get_attr("text_world", [0])[0]
    tree = StringTree(world.n_words, world.max_length, world.pad)
    pi, sft = exact_log_next(model.policy, world, tree), exact_log_next(reference, world, tree)
    return grade_text(tree, pi, sft, exact_scores(world, tree), beta)
