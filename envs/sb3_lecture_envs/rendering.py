"""Pictures of a state: text without pygame, images and a window with it, values and a policy drawn over the cells."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_lecture_envs.grid import CLIFF, END, FREE, GOAL, PIT, START, WALL, GridLayout
from sb3_lecture_envs.mdp import TabularMDP

if TYPE_CHECKING:
    import pygame

Colour = tuple[int, int, int]
PAPER: Colour = (250, 250, 252)
LINES: Colour = (214, 219, 228)
INK: Colour = (58, 66, 82)
CELL_COLOURS: dict[str, Colour] = {
    WALL: (70, 78, 94),
    PIT: (24, 25, 30),
    END: (224, 228, 236),
    CLIFF: (24, 25, 30),
    START: (224, 234, 250),
}
#: the lecture's maze: a red explorer, black hells, a yellow circle
TREASURE, BONUS, AGENT, AGENT_RIM = (246, 200, 40), (160, 112, 16), (214, 48, 42), (255, 255, 255)
#: longest side of a picture, pixels, and the bounds of a cell's side
PICTURE_SIZE, MIN_CELL, MAX_CELL = 640, 4, 96
SUPERSAMPLING = 3  # drawn larger and scaled down: smooth edges


def ansi(mdp: TabularMDP, layout: GridLayout | None, state: int, last_action: int | None) -> str:
    """The state as text: ``o`` the agent, ``T`` the treasure, ``x`` what costs, ``#`` walls; below, the last action.

    :param mdp: the law
    :param layout: where the states lie; None: only the state's number is shown
    :param state: present state
    :param last_action: the action that led here, or None
    :return: one line a row of the map
    """
    if layout is None:
        action = "" if last_action is None else f" after action {last_action}"
        return f"state {state} of {mdp.n_states}{action}\n"
    text = layout.text(state)
    return f"{text}\n" if last_action is None else f"{text}\n({layout.actions[last_action]})\n"


def load_pygame() -> Any:
    """Import pygame, which pictures and windows need and text does not.

    :raises ModuleNotFoundError: if it is not installed; the message says how to
    """
    try:
        import pygame
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pictures and windows need pygame: pip install pygame (or the extra [human]); render_mode='ansi' draws text"
        ) from error
    return pygame


class Window:
    """A window that shows pictures; pygame opens it with the first one.

    :param title: its title
    :param fps: pictures a second
    """

    def __init__(self, title: str, fps: int) -> None:
        self.title, self.fps = title, fps
        self._display: Any = None
        self._clock: Any = None

    def show(self, picture: np.ndarray) -> None:
        """Show a picture, uint8 [height, width, 3], and wait for the next one's turn."""
        pygame = load_pygame()

        if self._display is None:
            pygame.display.init()
            pygame.display.set_caption(self.title)
            self._display = pygame.display.set_mode((picture.shape[1], picture.shape[0]))
            self._clock = pygame.time.Clock()
        pygame.surfarray.blit_array(self._display, np.transpose(picture, (1, 0, 2)))
        pygame.event.pump()
        pygame.display.update()
        self._clock.tick(self.fps)

    def close(self) -> None:
        """Close the window."""
        if self._display is not None:
            pygame = load_pygame()

            pygame.display.quit()
            self._display = None


class Renderer:
    """Images and a window of one world; pygame is imported here and only here.

    :param mdp: the law
    :param layout: where the states lie; None: the states are laid out in a square, numbered
    :param fps: frames a second of the window
    """

    def __init__(self, mdp: TabularMDP, layout: GridLayout | None, fps: int) -> None:
        self.layout = layout if layout is not None else _square(mdp.n_states)
        self.numbered = layout is None
        self.cell = int(np.clip(PICTURE_SIZE // max(self.layout.height, self.layout.width), MIN_CELL, MAX_CELL))
        self._world: pygame.Surface | None = None  # the world without its agent
        self._window = Window("sb3_lecture", fps)

    def image(self, state: int | None, values: np.ndarray | None = None, policy: np.ndarray | None = None) -> np.ndarray:
        """Draw one state.

        :param state: where the agent is; None: it is not drawn
        :param values: one number a state, [S], drawn as the colour of its cell and in figures; None: not drawn
        :param policy: actions to draw as arrows, bool [S, A]; None: not drawn
        :return: uint8 [height, width, 3]
        """
        pygame = load_pygame()

        surface = self._surface(state, values, policy)
        return np.transpose(pygame.surfarray.array3d(surface), (1, 0, 2)).copy()

    def show(self, state: int) -> None:
        """Draw one state in a window, at ``fps`` frames a second."""
        self._window.show(self.image(state))

    def close(self) -> None:
        """Close the window."""
        self._window.close()

    def _surface(self, state: int | None, values: np.ndarray | None, policy: np.ndarray | None) -> "pygame.Surface":
        pygame = load_pygame()

        if self._world is None:
            self._world = self._draw_world()
        surface = self._world.copy()
        scale = self.cell * SUPERSAMPLING
        if values is not None:
            self._draw_values(surface, values)
        if policy is not None:
            self._draw_arrows(surface, policy)
        if state is not None:
            row, column = self.layout.cells[state]
            box = pygame.Rect(column * scale, row * scale, scale, scale)
            pygame.draw.rect(surface, AGENT_RIM, box.inflate(-0.44 * scale, -0.44 * scale))
            pygame.draw.rect(surface, AGENT, box.inflate(-0.5 * scale, -0.5 * scale))
        size = (self.layout.width * self.cell, self.layout.height * self.cell)
        return pygame.transform.smoothscale(surface, size)

    def _draw_world(self) -> "pygame.Surface":
        pygame = load_pygame()

        scale, layout = self.cell * SUPERSAMPLING, self.layout
        surface = pygame.Surface((layout.width * scale, layout.height * scale))
        surface.fill(PAPER)
        rim = max(1, scale // 48)
        for row, column in np.ndindex(layout.height, layout.width):
            symbol = str(layout.symbols[row, column])
            box = pygame.Rect(column * scale, row * scale, scale, scale)
            pygame.draw.rect(surface, CELL_COLOURS.get(symbol, PAPER), box)
            if symbol != WALL:
                pygame.draw.rect(surface, LINES, box, rim)
            if symbol == GOAL:
                pygame.draw.circle(surface, TREASURE, box.center, int(0.34 * scale))
            elif symbol == END:
                pygame.draw.rect(surface, INK, box.inflate(-0.6 * scale, -0.6 * scale), max(1, scale // 24))
            elif symbol not in (WALL, FREE, START, PIT, CLIFF):
                _text(surface, symbol, BONUS, box.center, 0.4 * scale)
        if self.numbered:
            for state, (row, column) in enumerate(layout.cells):
                _text(surface, str(state), INK, (int((column + 0.5) * scale), int((row + 0.8) * scale)), 0.24 * scale)
        return surface

    def _draw_values(self, surface: "pygame.Surface", values: np.ndarray) -> None:
        pygame = load_pygame()

        scale = self.cell * SUPERSAMPLING
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        for value, (row, column) in zip(values, self.layout.cells, strict=True):
            box = pygame.Rect(column * scale, row * scale, scale, scale)
            share = (value - low) / (high - low) if np.isfinite(value) and high > low else 0.0
            pale, full = np.array(PAPER), np.array((120, 170, 226))
            pygame.draw.rect(
                surface, (pale + share * (full - pale)).astype(int).tolist(), box.inflate(-scale // 24, -scale // 24)
            )
            _text(surface, f"{value:.3g}", INK, box.center, 0.22 * scale)

    def _draw_arrows(self, surface: "pygame.Surface", policy: np.ndarray) -> None:
        scale = self.cell * SUPERSAMPLING
        ways = {"↑": (0, -1), "→": (1, 0), "↓": (0, 1), "←": (-1, 0)}
        for actions, (row, column) in zip(policy, self.layout.cells, strict=True):
            for action in np.flatnonzero(actions):
                dx, dy = ways[self.layout.actions[action]]
                tip = ((column + 0.5 + 0.38 * dx) * scale, (row + 0.5 + 0.38 * dy) * scale)
                _arrow_head(surface, INK, tip, (dx, dy), 0.1 * scale)


def _square(n_states: int) -> GridLayout:
    """States without a place of their own, row by row in a square."""
    width = int(np.ceil(np.sqrt(n_states)))
    height = -(-n_states // width)
    cells = np.stack(np.divmod(np.arange(n_states), width), axis=1).astype(np.int32)
    symbols = np.full((height, width), WALL)
    symbols[tuple(cells.T)] = FREE
    return GridLayout(symbols, cells)


def _arrow_head(
    surface: "pygame.Surface", colour: Colour, tip: tuple[float, float], way: tuple[int, int], size: float
) -> None:
    pygame = load_pygame()

    (x, y), (dx, dy) = tip, way
    base = (x - size * dx, y - size * dy)
    side = (-dy * size * 0.8, dx * size * 0.8)
    pygame.draw.polygon(surface, colour, [tip, (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1])])


def _text(surface: "pygame.Surface", text: str, colour: Colour, centre: tuple[float, float], size: float) -> None:
    pygame = load_pygame()

    if not pygame.font.get_init():
        pygame.font.init()
    image = pygame.font.Font(None, max(8, int(size))).render(text, True, colour)
    surface.blit(image, image.get_rect(center=(int(centre[0]), int(centre[1]))))
