"""The GTP engine under scripted sessions, and a game in the terminal."""

import io

import gymnasium as gym
import numpy as np
import pytest
from sgfmill import boards as sgfmill_boards
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


def test_colours_may_move_twice_and_play_on_after_two_passes():
    answers = session(
        "boardsize 5\nkomi 0\nplay b C3\nplay b C4\nplay w A1\nplay b pass\nplay w pass\nplay w A2\nplay b E5\nplay w pass\n"
        "play b pass\nplay b E4\nshowboard\n"
    )
    assert answers[:12] == ["="] * 12
    assert [row.split()[1:] for row in answers[12].split("\n")[1:6]] == [
        [".", ".", ".", ".", "X"], [".", ".", "X", ".", "X"], [".", ".", "X", ".", "."], ["O", ".", ".", ".", "."],
        ["O", ".", ".", ".", "."],
    ]  # fmt: skip


def test_a_generated_pass_is_one_undo():
    """After two passes the engine passes too; each of the three passes, and the stone before them, is one undo."""
    start = "boardsize 5\nkomi 0\nplay b C3\nplay w pass\nplay b pass\ngenmove w\n"
    answers = session(start + "undo\n" * 3 + "final_score\nundo\nfinal_score\nundo\n")
    assert answers[5:] == ["= pass", "=", "=", "=", "= B+25", "=", "= 0", "? cannot undo"]


def test_no_game_is_too_long():
    """70 moves on 25 points, then a legal one; the player is shown a game that is half over."""
    seen = []

    def player(observation, mask):
        seen.append(observation)
        return int(np.flatnonzero(mask)[0])

    passes = "".join(f"play {'bw'[i % 2]} pass\nplay {'bw'[i % 2]} {'A1' if i % 2 else 'E5'}\nundo\n" for i in range(70))
    answers = session("boardsize 5\n" + passes + "play b C3\ngenmove w\n", lambda game: player)
    assert set(answers[:-1]) == {"="} and answers[-1] == "= A5"
    assert seen[0][4, 0, 0] == 25 / 50 and seen[0][5].max() == 0.0 and seen[0][1, 2, 2] == 1.0


def test_bytes_of_any_kind_in_comments_and_control_characters_are_discarded(monkeypatch):
    text = b"1 na\x07me # caf\xe9 \xff\xfe\r\n\r\n2\tknown_\rcommand\tplay\x7f\n# \xb2\n3 boardsize 5\r\n"

    class Standard:
        buffer = io.BytesIO(text)

    monkeypatch.setattr("sys.stdin", Standard())
    sink = io.StringIO()
    assert gtp(["--opponent", "random", "--size", "5"], None, sink) == 0
    assert sink.getvalue() == "=1 sb3-lecture\n\n=2 true\n\n=3\n\n"


def test_numbers_are_the_protocols():
    words = ["nan", "inf", "-inf", "1e999", "1_0", "0x5", "6.5e", ""]
    assert session("".join(f"komi {word}\n" for word in words)) == ["? syntax error"] * len(words)
    assert session("komi -3.5\nfinal_score\nkomi +1e1\nfinal_score\nkomi .5\n")[1:] == ["= B+3.5", "=", "= W+10", "="]
    assert session("boardsize -9\nboardsize 5.0\nboardsize 9999999999999999999999\n") == ["? unacceptable size"] * 3


def test_a_player_that_cannot_move_is_a_failure_not_the_end():
    def broken(observation, mask):
        raise ValueError("In row 0 the logits are not finite\nand more")

    answers = session("genmove b\nname\n", lambda game: broken)
    assert answers == ["? no move: In row 0 the logits are not finite", "= sb3-lecture"]


# ---- an independent referee


class Referee:
    """The rules once more, on sgfmill's board: no suicide, positional superko over the whole game, area scoring."""

    def __init__(self, size):
        self.size = size
        self.boards = [sgfmill_boards.Board(size)]

    def play(self, colour, vertex):
        board = self.boards[-1].copy()
        if vertex != "pass":
            row, column = int(vertex[1:]) - 1, "ABCDEFGHJ".index(vertex[0])
            if board.get(row, column) is not None:
                return False
            board.play(row, column, colour)
            if board.get(row, column) is None or any(board.board == past.board for past in self.boards):
                return False
        self.boards.append(board)
        return True

    def undo(self):
        if len(self.boards) == 1:
            return False
        self.boards.pop()
        return True

    def rows(self):
        cells = {"b": "X", "w": "O", None: "."}
        return [[cells[cell] for cell in row] for row in reversed(self.boards[-1].board)]

    def lead(self, komi):
        return self.boards[-1].area_score() - komi


def random_session(seed, n_commands):
    """One game of commands that are mostly legal, and whether engine and referee agree on each."""
    rng = np.random.default_rng(seed)
    size, komi = int(rng.integers(5, 8)), float(rng.integers(-9, 10)) / 2
    engine = GtpEngine(lambda game: RandomPlayer(seed), size, komi)
    referee, colour, refused = Referee(size), "b", 0
    for _ in range(n_commands):
        what = rng.random()
        if what < 0.06:
            legal, answer = referee.undo(), engine.answer("undo")[0]
        elif what < 0.2:
            answer = engine.answer(f"genmove {colour}")[0]
            legal = referee.play(colour, answer[1:].strip())
            assert legal, f"the engine played {answer!r}"
        else:
            vertex = "pass" if what < 0.25 else f"{'ABCDEFGHJ'[rng.integers(size)]}{rng.integers(size) + 1}"
            legal, answer = referee.play(colour, vertex), engine.answer(f"play {colour} {vertex}")[0]
        assert (answer[0] == "=") == legal
        refused += not legal
        board = engine.answer("showboard")[0].split("\n")[1 : size + 1]
        assert [row.split()[1:] for row in board] == referee.rows()
        if legal and rng.random() < 0.9:
            colour = "w" if colour == "b" else "b"
    lead = referee.lead(komi)
    assert engine.answer("final_score")[0].split()[1] == ("0" if lead == 0 else f"{'B' if lead > 0 else 'W'}+{abs(lead):g}")
    return refused, len(referee.boards)


def test_random_sessions_agree_with_an_independent_referee():
    refused, played = np.array([random_session(seed, 80) for seed in range(200)]).sum(axis=0)
    assert refused > 1000 and played > 5000  # occupied points, suicide, superko; and games much longer than a board


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
    with pytest.raises(UserError, match="is no game; people play"):
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
    with pytest.raises(
        UserError, match=r"plays another game: it sees \(2, 4, 7\) and has 28 actions, here are \(2, 3, 3\) and 9"
    ):
        named_opponent(TicTacToe(), str(folder))
    with pytest.raises(UserError, match="another game"):
        gtp(["--opponent", str(folder), "--size", "5"], io.StringIO(""), io.StringIO())


def test_a_saved_model_refuses_another_board_and_the_game_goes_on(tmp_path):
    model = PPO("MlpPolicy", gym.make("Lecture/Go-v0", size=5), n_steps=8, batch_size=8, device="cpu")
    model.save(tmp_path / "go.zip")
    sink = io.StringIO()
    script = "play b C3\nboardsize 7\nplay w C3\ngenmove w\nboardsize 5\n"
    gtp(["--opponent", str(tmp_path / "go.zip"), "--algo", "ppo", "--size", "5"], io.StringIO(script), sink)
    answers = sink.getvalue().split("\n\n")
    assert answers[:3] == ["=", "? unacceptable size", "? illegal move"] and answers[4] == "="


@pytest.mark.parametrize("n", ["0", "-1"])
def test_too_few_simulations_are_refused(n):
    with pytest.raises(UserError, match=f"--simulations {n}: give at least 1"):
        gtp(["--size", "5", "--simulations", n], io.StringIO(""), io.StringIO())
