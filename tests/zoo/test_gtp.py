"""The GTP engine under scripted sessions, and a game in the terminal."""

import io

import numpy as np
import pytest
from stable_baselines3 import PPO

from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.gtp import GtpEngine, gtp
from sb3_lecture.zoo.human_play import named_opponent, play
from sb3_lecture_envs.board.nim import Nim
from sb3_lecture_envs.board.players import RandomPlayer
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe


def session(script, make_player=lambda game: RandomPlayer(0)):
    """The answers to a script, one a command."""
    sink = io.StringIO()
    GtpEngine(make_player).run(io.StringIO(script), sink)
    text = sink.getvalue()
    assert text.endswith("\n\n")
    return text[:-2].split("\n\n")


def test_a_session_of_a_controller():
    answers = session(
        "1 protocol_version\n2 name\n\n# a comment\n3 known_command genmove\n4 known_command dance\n5 dance\n"
        "6 boardsize 5\n7 clear_board\n8 komi 0.5\n9 play black C3\n10 play w c3\n11 play white D4 # beside\n"
        "12 genmove b\n13 showboard\n14 quit\n15 name\n"
    )
    assert answers[:11] == [
        "=1 2", "=2 sb3-lecture", "=3 true", "=4 false", "?5 unknown command", "=6", "=7", "=8", "=9", "?10 illegal move",
        "=11",
    ]  # fmt: skip
    assert answers[11].startswith("=12 ") and answers[11][4] in "ABCDE"
    board = answers[12].split("\n")
    assert board[1:][1].split()[4] == "O" and board[1:][2].split()[3] == "X"  # D4, C3
    assert answers[13:] == ["=14"]  # nothing after quit


def test_list_commands_names_what_the_protocol_requires():
    required = {
        "protocol_version", "name", "version", "known_command", "list_commands", "quit", "boardsize", "clear_board", "komi",
        "play", "genmove",
    }  # fmt: skip
    (answer,) = session("list_commands\n")
    assert required <= set(answer.removeprefix("= ").split("\n"))


def test_wrong_arguments_get_the_protocols_answers():
    answers = session(
        "boardsize 25\nboardsize\nboardsize x\nkomi much\nplay C3\nplay green C3\nplay black Z9\ngenmove\nundo\nplay b I5\n"
    )
    assert answers == [
        "? unacceptable size", "? syntax error", "? unacceptable size", "? syntax error", "? syntax error", "? syntax error",
        "? illegal move", "? syntax error", "? cannot undo", "? illegal move",
    ]  # fmt: skip


def test_captures_ko_undo_and_the_score():
    # black takes a stone at B4 in a ko; white may not take back at once, but after an exchange elsewhere
    setup = "".join(f"play {c} {p}\n" for c, p in [
        ("b", "B5"), ("w", "C5"), ("b", "A4"), ("w", "D4"), ("b", "B3"), ("w", "C3"), ("b", "E1"), ("w", "B4"),
    ])  # fmt: skip
    answers = session(
        "boardsize 5\nkomi 0\n" + setup + "play b C4\nplay w B4\nplay w E5\nplay b D1\nplay w B4\nundo\nplay w B4\nshowboard\n"
        "final_score\n"
    )
    assert answers[2:10] == ["="] * 8
    assert answers[10:15] == ["=", "? illegal move", "=", "=", "="]
    assert answers[15:17] == ["=", "="]
    assert answers[17].split("\n")[2].split()[1:] == ["X", "O", ".", "O", "."]
    assert session("boardsize 5\nkomi 6.5\nfinal_score\nplay b C3\nfinal_score\n")[2:] == ["= W+6.5", "=", "= B+18.5"]


def test_colours_may_move_twice_and_passes_end_the_game():
    answers = session("boardsize 5\nplay b C3\nplay b C4\nplay w A1\nplay b pass\nplay w pass\ngenmove b\nplay b E5\n")
    assert answers == ["=", "=", "=", "=", "=", "=", "= pass", "? illegal move"]


def test_positional_superko_is_enforced():
    # three kos, which the sides take in turn until the last would bring a whole board back
    rows = [
        ". X O . . . . . .", "X . X O . . . . .", ". X O . . . . . .", ". X O . . . . . .", "X O . O . . . . .",
        ". X O . . . . . .", ". X O . . . . . .", "X O . O . . . . .", ". X O . . . . . .",
    ]  # fmt: skip
    cells = [(row, column, cell) for row, line in enumerate(rows) for column, cell in enumerate(line.split()) if cell != "."]
    stones = [("b" if cell == "X" else "w", f"{'ABCDEFGHJ'[column]}{9 - row}") for row, column, cell in cells]
    script = "".join(f"play {colour} {point}\n" for colour, point in stones)
    moves = ["w B8", "b C5", "w pass", "b C2", "w B5", "b C8", "w B2"]
    answers = session(script + "".join(f"play {move}\n" for move in moves))
    assert answers == ["="] * (len(stones) + 6) + ["? illegal move"]


def test_warming_up_asks_the_player_once_and_leaves_the_game_alone():
    asked = []

    def player(observation, mask):
        asked.append(observation)
        return int(np.flatnonzero(mask)[0])

    engine = GtpEngine(lambda game: player, size=5)
    engine.answer("play b C3")
    before = engine.state.copy()
    engine.warm_up()
    assert len(asked) == 1 and len(engine.states) == 2
    np.testing.assert_array_equal(engine.state, before)


def test_the_command_line_builds_the_engine(capsys):
    sink = io.StringIO()
    assert gtp(["--opponent", "random", "--size", "7", "--seed", "0"], io.StringIO("genmove b\nquit\n"), sink) == 0
    assert sink.getvalue().startswith("= ")
    with pytest.raises(UserError, match="size=3"):
        gtp(["--opponent", "random", "--size", "3"], io.StringIO(""), sink)
    with pytest.raises(UserError, match="no exact solver"):
        gtp(["--opponent", "perfect"], io.StringIO(""), sink)


def terminal(*lines):
    """What a person types, and a list that collects what is printed."""
    typed, printed = iter(lines), []

    def read(prompt):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    return read, printed


def test_a_person_wins_and_loses_in_the_terminal():
    read, printed = terminal("a1", "b9", "a1", "moves", "b1", "c1")
    # the opponent takes the last legal cell: the person's row is not stopped
    result = play("Lecture/TicTacToe-v0", lambda o, m: int(np.flatnonzero(m)[-1]), read=read, write=printed.append)
    text = "\n".join(printed)
    assert result == 1.0 and "You win." in text
    assert "'b9' is no cell" in text and "a1 is not legal" in text and "Legal: b1" in text and "O plays c3." in text
    read, printed = terminal("a3", "b3", "c2")
    result = play(
        "Lecture/TicTacToe-v0", lambda o, m: int(np.flatnonzero(m)[0]), side="second", read=read, write=printed.append
    )
    assert result == -1.0 and "You lose." in printed[-1]


def test_the_search_answers_in_the_terminal_and_over_gtp():
    read, printed = terminal("a1", "b1")  # two in a row: the search stops the third
    play("Lecture/TicTacToe-v0", "mcts", simulations=2000, seed=0, read=read, write=printed.append)
    assert "O plays c1." in printed
    sink = io.StringIO()
    gtp(["--size", "5", "--simulations", "50", "--seed", "0"], io.StringIO("genmove b\ngenmove w\nquit\n"), sink)
    assert all(answer.startswith("= ") for answer in sink.getvalue().split("\n\n")[:2])


def test_a_person_may_leave_and_meets_the_perfect_player():
    read, printed = terminal("4-1")
    assert play("Lecture/Nim-v0", "perfect", seed=0, read=read, write=printed.append) == 0.0
    assert printed[-1] == "Goodbye." and any("O plays" in line for line in printed)
    read, printed = terminal("quit")
    assert (
        play("Lecture/Nim-v0", "random", env_kwargs={"heaps": (2, 1)}, side="random", read=read, write=printed.append) == 0.0
    )


def test_the_perfect_player_of_connect_four_says_where_it_searches(monkeypatch):
    monkeypatch.setattr("sb3_lecture.zoo.human_play.OPENING_SIMULATIONS", 100)
    read, printed = terminal("1", "quit")
    play("Lecture/ConnectFour-v0", "perfect", seed=0, read=read, write=printed.append)
    answers = [line for line in printed if line.startswith("O plays")]
    assert len(answers) == 1 and answers[0].endswith("(by search: this opening is not solved).")
    read, printed = terminal("quit")
    play("Lecture/ConnectFour-v0", "perfect", side="second", seed=0, read=read, write=printed.append)
    assert "X plays 4." in printed  # the only winning first move, from the book


def test_wrong_words_are_told():
    with pytest.raises(UserError, match="no board game"):
        play("Lecture/Maze-v0")
    with pytest.raises(UserError, match="cannot make Lecture/Chess-v0"):
        play("Lecture/Chess-v0")
    with pytest.raises(UserError, match="--side left"):
        play("Lecture/Nim-v0", side="left")
    with pytest.raises(UserError, match="no such model"):
        named_opponent(TicTacToe(), "stockfish")


def test_a_saved_model_is_found_by_its_run(tmp_path):
    folder = tmp_path / "ppo" / "Lecture-Nim-v0_1"
    folder.mkdir(parents=True)
    PPO("MlpPolicy", "Lecture/Nim-v0", n_steps=8, batch_size=8, device="cpu").save(folder / "Lecture-Nim-v0.zip")
    game = Nim()
    for word, algo in ((folder, None), (folder / "Lecture-Nim-v0.zip", None), (folder / "Lecture-Nim-v0.zip", "ppo")):
        player = named_opponent(game, str(word), algo)
        assert game.legal(game.initial(1))[0, player(game.observe(game.initial(1))[0], game.legal(game.initial(1))[0])]
    (tmp_path / "lost.zip").write_bytes((folder / "Lecture-Nim-v0.zip").read_bytes())
    with pytest.raises(UserError, match="add --algo"):
        named_opponent(game, str(tmp_path / "lost.zip"))
