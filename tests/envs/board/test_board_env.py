"""BoardEnv and BoardVectorEnv: the contracts of Gymnasium and SB3, opponents, illegal moves, one law for both."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv

import sb3_lecture_envs  # noqa: F401  registers the ids
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture_envs.board.env import BoardEnv, BoardVectorEnv
from sb3_lecture_envs.board.game import OVER, PLY
from sb3_lecture_envs.board.players import PerfectPlayer, RandomPlayer
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe

IDS = [f"Lecture/{name}-v0" for name in ("TicTacToe", "ConnectFour", "Othello", "Go", "Nim")]
SMALL = {"Lecture/Othello-v0": {"size": 6}, "Lecture/Go-v0": {"size": 5, "komi": 0.5}}
each_id = pytest.mark.parametrize("env_id", IDS)


def first_legal(observation, mask):
    return int(np.flatnonzero(mask)[0])


def random_action(env, rng):
    return int(rng.choice(np.flatnonzero(env.action_masks())))


@each_id
@pytest.mark.parametrize("opponent", [None, "random"])
def test_the_checkers_of_gymnasium_and_sb3_accept_every_game(env_id, opponent, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
    env = gym.make(env_id, opponent=opponent, render_mode="rgb_array", **SMALL.get(env_id, {}))
    gymnasium_check(env.unwrapped)
    with warnings.catch_warnings():
        # planes of a board look like a picture to SB3; MlpPolicy flattens them
        warnings.filterwarnings("ignore", message="It seems that your observation")
        warnings.filterwarnings("ignore", message="The minimal resolution for an image")
        warnings.filterwarnings("ignore", message="Treating image space as channels-last")
        sb3_check(env)
    # the checkers raise where a contract is broken; what they do not ask:
    shown, info = env.reset(seed=1)
    assert shown.shape == env.unwrapped.game.observation_shape and env.observation_space.contains(shown)
    assert info["action_mask"].sum() == env.unwrapped.game.legal(env.unwrapped.state[None]).sum() > 0
    state = env.unwrapped.state.copy()
    env.reset(seed=1)
    np.testing.assert_array_equal(env.unwrapped.state, state)


@each_id
def test_two_players_alternate_and_the_mover_is_rewarded(env_id):
    env, rng = gym.make(env_id, **SMALL.get(env_id, {})).unwrapped, np.random.default_rng(0)
    for _ in range(5):
        observation, info = env.reset(seed=int(rng.integers(100)))
        for ply in range(env.game.max_plies + 1):
            assert env.state[PLY] == ply
            np.testing.assert_array_equal(info["action_mask"], env.action_masks())
            np.testing.assert_array_equal(observation, env.game.observe(env.state[None])[0])
            action = random_action(env, rng)
            _, rewards, terminated = env.game.step(env.state[None], [action])
            observation, reward, over, truncated, info = env.step(action)
            assert (reward, over, truncated) == (rewards[0], terminated[0], False)
            if over:
                break
        assert over and not info["action_mask"].any()
        with pytest.raises(ValueError, match="over: call reset"):
            env.step(0)


@each_id
def test_an_illegal_move_loses_or_is_an_error(env_id):
    env, rng = gym.make(env_id, **SMALL.get(env_id, {})).unwrapped, np.random.default_rng(0)
    env.reset()
    env.step(random_action(env, rng))
    while env.action_masks().all():
        env.step(0 if env.game.n_actions == 7 else random_action(env, rng))  # fill a column of Connect Four
    illegal = int(np.flatnonzero(~env.action_masks())[0])
    state = env.state.copy()
    _, reward, terminated, _, info = env.step(illegal)
    assert (reward, terminated, info["illegal"]) == (-1.0, True, True) and not info["action_mask"].any()
    np.testing.assert_array_equal(env.state, state)
    with pytest.raises(ValueError, match="over"):
        env.step(illegal)
    env.reset()
    assert env.action_masks().any()
    strict = gym.make(env_id, illegal="error", **SMALL.get(env_id, {})).unwrapped
    strict.reset(options={"state": state})
    with pytest.raises(ValueError, match=f"Action {illegal} is illegal"):
        strict.step(illegal)


@pytest.mark.parametrize("side", ["first", "second", "random"])
def test_an_opponent_makes_it_a_game_for_one(side):
    env, rng, agents = BoardEnv(TicTacToe(), first_legal, side=side), np.random.default_rng(0), set()
    for game in range(30):
        env.reset(seed=game)
        agents.add(env.agent)
        assert env.state[PLY] == env.agent  # the opponent has moved where it is first
        while True:
            before = env.game.board(env.state)
            action = random_action(env, rng)
            _, reward, terminated, _, _ = env.step(action)
            board, agent = env.game.board(env.state), 1 - 2 * env.agent
            assert board.flat[action] == agent
            lines = [*board, *board.T, board.diagonal(), board[:, ::-1].diagonal()]
            assert reward == any((line == agent).all() for line in lines) - any((line == -agent).all() for line in lines)
            if terminated:
                break
            free = np.flatnonzero((before.ravel() == 0) & (np.arange(9) != action))
            assert board.flat[free[0]] == -agent  # the opponent took the first legal cell
    assert agents == {"first": {0}, "second": {1}, "random": {0, 1}}[side]


def test_an_opponents_illegal_move_is_an_error():
    env = BoardEnv(TicTacToe(), lambda observation, mask: 0, side="first")
    env.reset()
    with pytest.raises(ValueError, match="opponent's action 0"):
        env.step(0)


def test_one_seed_gives_one_game():
    def record(seed):
        env = BoardEnv(TicTacToe(), "random")
        rng, seen = np.random.default_rng(0), [env.reset(seed=seed)[0]]
        while not env.state[OVER]:
            seen.append(env.step(random_action(env, rng))[0])
        return np.concatenate([x.ravel() for x in seen])

    np.testing.assert_array_equal(record(3), record(3))
    assert any(len(record(s)) != len(record(3)) or (record(s) != record(3)).any() for s in range(4, 10))


def test_reset_starts_from_a_given_state():
    env = BoardEnv(TicTacToe(), first_legal, side="first")
    state = env.game.step(env.game.step(env.game.initial(1), [4])[0], [0])[0][0]
    observation, _ = env.reset(options={"state": state})
    np.testing.assert_array_equal(env.game.state_of(observation[None])[0], state)
    env.reset(options={"state": state, "side": "second"})
    assert env.state[PLY] == 3 and env.agent == 1
    with pytest.raises(ValueError, match="unfinished"):
        env.reset(options={"state": np.ones(4)})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"opponent": "strong"}, "opponent='strong'"),
        ({"side": "third"}, "side='third'"),
        ({"illegal": "ignore"}, "illegal='ignore'"),
        ({"render_mode": "svg"}, "render_mode='svg'"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BoardEnv(TicTacToe(), **kwargs)
    with pytest.raises(ValueError, match=message):
        BoardVectorEnv(TicTacToe(), 2, **kwargs)


def test_games_without_a_solver_have_no_perfect_opponent():
    with pytest.raises(ValueError, match="no exact solver"):
        gym.make("Lecture/Go-v0", opponent="perfect")


@each_id
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
@pytest.mark.parametrize("opponent", [None, first_legal])
def test_the_vector_env_plays_the_single_envs_games(env_id, mode, opponent):
    kwargs = {"opponent": opponent, **({"side": "second"} if opponent else {}), **SMALL.get(env_id, {})}
    venv = gym.make_vec(env_id, 5, autoreset_mode=mode, **kwargs).unwrapped
    assert venv.metadata["autoreset_mode"] == AutoresetMode[mode]
    envs, rng = [gym.make(env_id, **kwargs).unwrapped for _ in range(5)], np.random.default_rng(0)
    observations, infos = venv.reset(seed=0)
    for env in envs:
        env.reset()
    waiting, ended = np.zeros(5, bool), 0
    for step in range(120):
        np.testing.assert_array_equal(observations, [env._observation() for env in envs])
        np.testing.assert_array_equal(infos["action_mask"], [env.action_masks() for env in envs])
        actions = np.array([random_action(env, rng) if env.action_masks().any() else 0 for env in envs])
        if step % 10 == 9:
            actions[step // 10 % 5] = 0  # now and then perhaps an illegal move
        observations, rewards, terminated, truncated, infos = venv.step(actions)
        assert not truncated.any()
        for i, env in enumerate(envs):
            if waiting[i]:
                env.reset()
                assert rewards[i] == 0 and not terminated[i]
                continue
            final, reward, over, _, info = env.step(actions[i])
            assert (rewards[i], terminated[i]) == (reward, over)
            ended += over
            if over and mode == "SAME_STEP":
                np.testing.assert_array_equal(infos["final_obs"][i], final)
                assert infos["final_info"]["illegal"][i] == info.get("illegal", False)
                env.reset()
        if mode == "NEXT_STEP":
            waiting = terminated
    assert ended > 5


def test_the_vector_env_resets_where_it_is_told():
    venv = BoardVectorEnv(TicTacToe(), 3)
    venv.reset(seed=0)
    venv.step(np.array([0, 1, 2]))
    venv.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(venv.state[:, PLY], [1, 0, 1])
    with pytest.raises(ValueError, match="reset_mask"):
        venv.reset(options={"reset_mask": np.zeros(3, bool)})
    strict = BoardVectorEnv(TicTacToe(), 1, illegal="error")
    strict.step(np.array([0]))
    with pytest.raises(ValueError, match="Env 0: action 0 is illegal"):
        strict.step(np.array([0]))


def test_the_random_opponent_answers_whole_batches():
    venv = gym.make_vec("Lecture/ConnectFour-v0", 200, opponent="random", autoreset_mode="SAME_STEP").unwrapped
    venv.reset(seed=0)
    assert 50 < venv.agent.sum() < 150
    rng, results = np.random.default_rng(0), []
    for _ in range(60):
        masks = venv.action_masks()
        _, rewards, terminated, _, _ = venv.step(((1 - rng.random(masks.shape)) * masks).argmax(axis=1))
        results += rewards[terminated].tolist()
    assert abs(np.mean(results)) < 0.1 and len(results) > 500  # two equal players


@each_id
@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_boards_are_drawn(env_id, mode):
    env = gym.make(env_id, render_mode=mode).unwrapped
    env.reset()
    empty = env.render()
    env.step(first_legal(None, env.action_masks()))
    played = env.render()
    if mode == "ansi":
        assert played != empty
    else:
        assert played.dtype == np.uint8 and played.ndim == 3 and played.shape[2] == 3
        assert (played != empty).any()
    venv = gym.make_vec(env_id, 2, render_mode=mode)
    venv.reset()
    assert len(venv.render()) == 2


def test_maskable_ppo_plays_at_once():
    env = make_native_vec_env(
        "Lecture/Othello-v0", 4, seed=0, env_kwargs={"size": 6, "opponent": "random", "illegal": "error"}
    )
    model = MaskablePPO("MlpPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu").learn(256)
    assert model.num_timesteps == 256  # none of its moves was illegal, or the env would have raised
    observations = env.reset()
    for _ in range(20):
        masks = np.stack(env.env_method("action_masks"))
        actions, _ = model.predict(observations, action_masks=masks)
        assert masks[np.arange(4), actions].all()
        observations, _, _, _ = env.step(actions)


def test_dqn_ppo_and_eval_callback_play_against_an_opponent():
    def evaluation():
        return Monitor(gym.make("Lecture/Nim-v0", opponent="perfect"))

    callback = EvalCallback(evaluation(), n_eval_episodes=5, eval_freq=50, verbose=0)
    env = gym.make("Lecture/Nim-v0", opponent="perfect")
    DQN("MlpPolicy", env, learning_starts=10, seed=0, device="cpu").learn(100, callback=callback)
    assert -1 <= callback.last_mean_reward <= 1
    PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(64)


@pytest.mark.slow
def test_subprocesses_get_their_opponents():
    kwargs = {"opponent": RandomPlayer(seed=0)}
    env = make_vec_env("Lecture/TicTacToe-v0", 2, seed=0, env_kwargs=kwargs, vec_env_cls=SubprocVecEnv)
    try:
        env.reset()
        masks = np.stack(env.env_method("action_masks"))
        before = 9 - masks.sum(axis=1)
        observations, _, dones, _ = env.step(masks.argmax(axis=1))
        np.testing.assert_array_equal(observations.sum(axis=(1, 2, 3)), before + 2)  # a move and its answer
        assert not dones.any()
    finally:
        env.close()
    perfect = TicTacToe().perfect_player(seed=0)
    copy = pickle.loads(pickle.dumps(perfect))
    assert isinstance(copy, PerfectPlayer)
    start = TicTacToe().initial(50)
    masks, seen = TicTacToe().legal(start), TicTacToe().observe(start)
    np.testing.assert_array_equal(copy.batch(seen, masks), perfect.batch(seen, masks))
