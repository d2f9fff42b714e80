"""The statistics of the pictures, and that each picture is drawn."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.quiver import Quiver

import sb3_lecture_envs.maze
from sb3_lecture.exact.grade import ExactPrediction
from sb3_lecture.zoo import grading, plotting, report
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.runs import Run, find_run, find_runs, open_run, read_episodes, read_exact


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.70620), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (1000, 1.96234)],
)
def test_t_quantiles_are_those_of_the_table(degrees, quantile):
    assert plotting.t_quantile(degrees) == pytest.approx(quantile, rel=1e-4)


def test_the_band_is_the_t_interval_of_the_mean():
    x = np.array([0.0, 10.0])
    curves = [(x, np.full(2, value)) for value in (1.0, 2.0, 3.0)]
    grid, mean, half = plotting.mean_and_band(curves)
    assert grid[0] == 0 and grid[-1] == 10
    np.testing.assert_allclose(mean, 2.0)
    np.testing.assert_allclose(half, 4.30265 / np.sqrt(3), rtol=1e-4)  # sd 1


def test_curves_are_averaged_as_far_as_each_goes_with_a_band_where_two_live():
    x, y = np.array([0.0, 8.0]), np.array([0.0, 8.0])
    grid, mean, half = plotting.mean_and_band([(x, y), (np.array([2.0, 9.0]), np.array([4.0, 11.0]))])  # y = x and y = x + 2
    np.testing.assert_array_equal(grid, [0, 2, 8, 9])
    np.testing.assert_allclose(mean, [0, 3, 9, 11])  # the first alone, both, both, the second alone
    np.testing.assert_allclose(half, [np.nan, 12.7062, 12.7062, np.nan], rtol=1e-4)  # sd √2, √2 of two runs


def test_runs_of_unequal_length_are_drawn_to_their_ends_and_counted(tmp_path):
    runs = [make_run(tmp_path, k, [(k, 4, i / 10) for i in range(n)], seed=k) for k, n in ((1, 5), (2, 40), (3, 40))]
    (axes,) = plotting.learning_curve(runs, window=1).axes
    mean = axes.get_lines()[0]
    assert mean.get_xdata()[-1] == 160
    assert mean.get_label() == "training episodes, 2 of 3 to the end"
    assert (mean.get_ydata()[0], mean.get_ydata()[-1]) == (2.0, 2.5)


@pytest.mark.parametrize(
    ("algos", "label"),
    [(["iql", "bc"], "Gradient steps"), (["dqn", "gone"], "Environment steps"), (["dqn", "iql"], "Steps")],
)
def test_the_axis_says_what_a_step_is(algos, label):
    runs = [SimpleNamespace(algo=algo) for algo in algos]
    assert plotting._steps([SimpleNamespace(runs=runs)]) == label


def test_the_band_never_leaves_the_possible_range(tmp_path):
    runs = [make_run(tmp_path, k, [(k % 2, 4, i / 10) for i in range(9)], seed=k) for k in range(4)]
    (axes,) = plotting.learning_curve(runs, window=1).axes
    ends = axes.collections[0].get_paths()[0].get_extents()
    assert (ends.ymin, ends.ymax) == (0.0, 1.0)  # 0.5 ± 0.92 without bounds


def test_where_every_return_is_the_same_steps_an_episode_are_drawn(tmp_path):
    run = make_run(tmp_path, 1, [(1, n, i / 10) for i, n in enumerate((30, 12, 5))])
    (axes,) = plotting.learning_curve([run], window=1).axes
    np.testing.assert_array_equal(axes.get_lines()[0].get_xydata(), [[30, 30], [42, 12], [47, 5]])
    assert (axes.get_ylabel(), axes.get_title()) == ("Steps of an episode", "Steps; every return is 1")
    (run.params_path / "config.yml").write_text("n_envs: 2\n")  # episodes of two envs overlap
    (axes,) = plotting.learning_curve([run], window=1).axes
    assert axes.get_ylabel() == "Return of an episode"


def test_the_last_matches_are_told():
    board = {
        "timesteps": [10, 20],
        "random_win": [0.5, 0.92],
        "random_draw": [0.5, 0.08],
        "random_loss": [0, 0.0],
        "elo": [0, 7],
    }
    lines = report.match_lines({name: np.array(column) for name, column in board.items()})
    assert lines == ["Against random, half of the games with each side: won 92%, drawn 8%, lost 0%"]
    assert report.match_lines({}) == []


def test_each_world_has_its_row_and_its_arguments_in_the_title(tmp_path):
    runs = [make_run(tmp_path, k, [(k, 4, i / 10) for i in range(9)], env="Lecture/GridWorld-v0") for k in (1, 2, 3)]
    for run, size in zip(runs, ("2x2", "4x4", "4x4"), strict=True):
        (run.params_path / "config.yml").write_text(f"env_kwargs: {{map_name: {size}}}\n")
    figure = plotting.learning_curve(runs)
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes]
    assert titles == ["Lecture/GridWorld-v0, map_name 2x2", "Lecture/GridWorld-v0, map_name 4x4"]
    assert plotting.learning_curve(runs[1:]).get_suptitle() == "dqn on Lecture/GridWorld-v0, map_name 4x4, 2 runs"


def test_switches_are_named_by_those_that_are_on_and_legends_stay_on_the_page(tmp_path):
    runs = [make_run(tmp_path, k, [(k, 4, i / 10) for i in range(9)], algo="barebone_dqn") for k in range(4)]
    switches = [(), ("replay",), ("replay", "target_network"), ("replay", "target_network", "double")]
    for run, on in zip(runs, switches, strict=True):
        lines = [f"{name}: {str(name in on).lower()}" for name in ("replay", "target_network", "double")]
        (run.params_path / "config.yml").write_text("\n".join(lines))
    figure = plotting.learning_curve(runs)
    legend = figure.axes[0].get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["no switch", "replay", "replay + target", "replay + target + double"]
    figure.draw_without_rendering()
    for text in [*legend.get_texts(), figure.axes[0].title, figure.axes[0].xaxis.label]:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1


def test_the_rolling_mean_against_its_definition():
    y = np.random.default_rng(0).normal(size=50)
    slow = [y[max(0, i - 6) : i + 1].mean() for i in range(50)]
    np.testing.assert_allclose(plotting.rolling_mean(y, 7), slow)


def make_run(folder, number, episodes, algo="dqn", env="Lecture/Maze-v0", seed=0, exact=None):
    """Write a run's folder as rl_zoo3 does; episodes are (return, length, seconds)."""
    name = env.replace("/", "-")
    path = folder / algo / f"{name}_{number}"
    (path / name).mkdir(parents=True)
    (path / name / "args.yml").write_text(
        "!!python/object/apply:collections.OrderedDict\n"
        f"- - - algo\n    - {algo}\n  - - env\n    - {env}\n  - - seed\n    - {seed}\n"
    )
    lines = ['#{"t_start": 1700000000.0, "env_id": "x"}', "r,l,t", *(f"{r},{n},{t}" for r, n, t in episodes)]
    (path / "0.monitor.csv").write_text("\n".join(lines) + "\n")
    if exact is not None:
        names = ("timesteps", "values", "optimal_values", "regrets", "optimal_actions")  # as ExactEvalCallback writes them
        np.savez(path / "exact.npz", **dict(zip(names, map(np.array, zip(*exact, strict=True)), strict=True)))
    return open_run(path)


def test_a_run_is_read_from_its_folder(tmp_path):
    run = make_run(tmp_path, 3, [(1, 5, 0.1), (0, 7, 0.2)], seed=4, exact=[(0, 0.0, 0.9, 0.9, 0.5), (10, 0.9, 0.9, 0.0, 1.0)])
    assert (run.algo, run.env_id, run.seed, run.number) == ("dqn", "Lecture/Maze-v0", 4, 3)
    steps, returns = read_episodes(run)
    np.testing.assert_array_equal(steps, [5, 12])
    np.testing.assert_array_equal(returns, [1, 0])
    assert read_exact(run)["regrets"].tolist() == [0.9, 0.0]


def test_episodes_of_several_envs_are_put_in_the_order_of_time(tmp_path):
    run = make_run(tmp_path, 1, [(1, 5, 0.1), (3, 5, 0.3)])
    (run.path / "1.monitor.csv").write_text('#{"t_start": 1700000000.0}\nr,l,t\n2,4,0.2\n4,broken')
    steps, returns = read_episodes(run)
    np.testing.assert_array_equal(returns, [1, 2, 3])
    np.testing.assert_array_equal(steps, [5, 9, 14])


def test_episodes_of_self_play_are_the_first_players(tmp_path):
    """Monitor has the last mover's results: the first player's after an odd number of moves."""
    episodes = [(1, 5, 0.1), (1, 6, 0.2), (0, 9, 0.3), (-1, 3, 0.4)]
    run = make_run(tmp_path, 1, episodes, algo="alphazero", env="Lecture/TicTacToe-v0")
    np.testing.assert_array_equal(read_episodes(run)[1], [1, -1, 0, -1])
    figure = plotting.learning_curve([run], window=4)
    assert figure.axes[0].get_ylabel() == "Result of the first player"
    (run.params_path / "config.yml").write_text("env_kwargs: {opponent: random}\n")
    np.testing.assert_array_equal(read_episodes(run)[1], [1, 1, 0, -1])


def test_the_steps_of_an_atari_run_are_the_agents_not_the_frames(tmp_path):
    run = make_run(tmp_path, 1, [(1, 40, 0.1), (2, 80, 0.2)])
    (run.params_path / "config.yml").write_text("env_wrapper: [stable_baselines3.common.atari_wrappers.AtariWrapper]\n")
    np.testing.assert_array_equal(read_episodes(run)[0], [10, 30])
    (run.params_path / "config.yml").write_text("env_wrapper: [{x.AtariWrapper: {frame_skip: 2}}]\n")
    np.testing.assert_array_equal(read_episodes(run)[0], [20, 60])


def test_the_axis_fits_the_runs_not_the_band_of_few_runs(tmp_path):
    runs = [make_run(tmp_path, k, [(value, 10, i / 10) for i in range(50)], seed=k) for k, value in ((1, 0.0), (2, 1.0))]
    low, high = plotting.learning_curve(runs).axes[0].get_ylim()
    assert -0.2 < low < 0 and 1 < high < 1.2  # the interval of two runs would reach from -5.9 to 6.9


def test_the_newest_run_is_found_and_a_wrong_one_named(tmp_path):
    make_run(tmp_path, 1, [])
    newest = make_run(tmp_path, 2, [])
    assert find_run(tmp_path, "dqn").path == newest.path
    assert find_run(tmp_path, "dqn", "Lecture/Maze-v0", 1).number == 1
    for call, message in [
        (lambda: find_run(tmp_path, "dqn", None, 9), "numbers: 1, 2"),
        (lambda: find_runs(tmp_path, "ppo"), "holds no run"),
        (lambda: find_runs(tmp_path, "dqn", "Lecture/Mazes-v0"), "did you mean 'Lecture/Maze-v0'"),
        (lambda: open_run(tmp_path / "dqn"), "is no run's folder"),
        (lambda: open_run(tmp_path / "dq"), "did you mean 'dqn'"),
    ]:
        with pytest.raises(UserError, match=message):
            call()


def test_no_python_object_is_built_from_a_runs_arguments(tmp_path):
    run = make_run(tmp_path, 1, [])
    (run.params_path / "args.yml").write_text("env: CartPole-v1\nalgo: dqn\nseed: !!python/name:os.system ''\n")
    assert open_run(run.path) == Run(run.path, "dqn", "CartPole-v1", None)


def _png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("exact", [False, True])
def test_a_learning_curve_is_drawn(tmp_path, seeds, exact):
    rng = np.random.default_rng(0)
    table = [(i, i / 400, 0.9, 0.9 - i / 400, i / 400) for i in range(0, 401, 100)] if exact else None
    runs = [
        make_run(tmp_path, k + 1, [(rng.normal(), 4, i / 10) for i in range(100)], seed=k, exact=table) for k in range(seeds)
    ]
    path = plotting.save(plotting.learning_curve(runs), tmp_path / "curve.png")
    width, height = _png_size(path)
    assert width > height > 300


def test_a_run_without_data_says_so(tmp_path):
    with pytest.raises(UserError, match="no episode has ended yet"):
        plotting.learning_curve([make_run(tmp_path, 1, [])])


def test_a_picture_needs_a_known_ending_and_a_folder(tmp_path):
    figure = plotting.learning_curve([make_run(tmp_path, 1, [(1, 1, 1)])])
    with pytest.raises(UserError, match="ending must be one of"):
        plotting.save(figure, tmp_path / "x.bmpp")
    with pytest.raises(UserError, match="does not exist"):
        plotting.save(figure, tmp_path / "none" / "x.png")


@pytest.mark.parametrize("size", [None, 12])
def test_a_value_map_is_drawn_for_small_and_large_mazes(tmp_path, size):
    mdp, layout = sb3_lecture_envs.maze.law() if size is None else sb3_lecture_envs.maze.law("random", size)
    values = np.linspace(0, 1, mdp.n_states)
    good = np.ones(mdp.n_states, dtype=bool)
    good[2] = False
    terminal = np.isin(layout.state_symbols, ["G", "P"])
    actions = np.arange(mdp.n_states) % 4
    optimum = values.copy()
    values[1] = -np.inf  # the policy never ends there
    figure = plotting.value_map(layout, {"exact": values, "own": values}, optimum, actions, good, terminal, "dqn")
    width, height = _png_size(plotting.save(figure, tmp_path / "map.png"))
    assert width > 300 and height > 200


def test_a_game_against_oneself_shows_scores_instead_of_returns(tmp_path):
    run = make_run(tmp_path, 1, [(-1, 9, 0.1)], algo="alphazero", env="Lecture/TicTacToe-v0")
    figures = {"random_win": [0.5, 1.0], "random_draw": [0.2, 0.0], "random_loss": [0.3, 0.0], "elo": [0.0, 70.0]}
    np.savez(run.path / "board.npz", timesteps=[0, 100], **figures)
    scores, elo = plotting.learning_curve([run]).axes
    assert [line.get_ydata().tolist() for line in scores.get_lines()] == [[0.6, 1.0]]  # wins + half the draws
    assert [line.get_ydata().tolist() for line in elo.get_lines()] == [[0.0, 70.0]]


def test_a_prediction_methods_picture_is_the_error_of_its_values(tmp_path):
    run = make_run(tmp_path, 1, [(0, 9, 0.1), (1, 9, 0.2)], algo="td_prediction", env="Lecture/RandomWalk-v0")
    np.savez(run.path / "exact.npz", timesteps=[0, 18], rms_errors=[0.4, 0.1], largest_errors=[0.9, 0.2])
    _, errors = plotting.learning_curve([run]).axes
    assert [line.get_ydata().tolist() for line in errors.get_lines()] == [[0.4, 0.1]]  # no optimum beside it
    assert errors.get_ylabel() == "RMS error against the exact values"


def test_predicted_values_stand_beside_the_exact_ones_without_arrows():
    mdp, layout = sb3_lecture_envs.maze.law()
    exact, estimates = np.linspace(0, 1, mdp.n_states), np.linspace(0, 1, mdp.n_states)
    estimates[0] = 0.75  # the exact value is 0
    ends = np.isin(layout.state_symbols, ["G", "P"])
    result = ExactPrediction(0.75 / np.sqrt(mdp.n_states), 0.75, exact, estimates)
    grade = grading.PredictionGrade(result, layout, ends)
    assert grade.summary().startswith(
        "Values of the given policy: RMS error 0.1875 against the exact ones, largest error 0.75"
    )
    figure = grade.value_map("td_prediction")
    maps = figure.axes[:3]
    assert [ax.get_title() for ax in maps[:2]] == ["Exact value of the given policy", "The model's values"]
    row, column = layout.cells[0]
    assert [float(ax.images[0].get_array()[row, column]) for ax in maps] == pytest.approx([0.0, 0.75, 0.75])
    assert not any(isinstance(artist, Quiver) for ax in maps for artist in ax.collections)


def test_runs_with_other_hyperparameters_are_lines_of_their_own(tmp_path):
    runs = [make_run(tmp_path, k, [(k, 4, 0.1), (k, 4, 0.2)], seed=k % 2) for k in range(4)]
    for run, double in zip(runs, (True, True, False, False), strict=True):
        (run.params_path / "config.yml").write_text(f"gamma: 0.99\ndouble: {double}\nn_timesteps: {run.seed}\n")
    figure = plotting.learning_curve(runs)
    drawn = figure.axes[0].get_lines()
    lines = {line.get_label(): line.get_ydata() for line in drawn if not line.get_label().startswith("_")}
    assert len(drawn) == 2 + 4  # every run by itself too
    assert list(lines) == ["double (2 runs)", "no double (2 runs)"]
    np.testing.assert_allclose(lines["double (2 runs)"], 0.5)
    np.testing.assert_allclose(lines["no double (2 runs)"], 2.5)


def test_training_episodes_can_be_left_out(tmp_path):
    run = make_run(tmp_path, 1, [(1, 4, 0.1), (2, 4, 0.2)])
    np.savez(run.path / "evaluations.npz", timesteps=[4, 8], results=[[5.0, 7.0], [8.0, 8.0]])
    (line,) = plotting.learning_curve([run], evaluations_only=True).axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[4, 6], [8, 8]])
