"""The pages of the lab: one Python module each, and one view of the same name in ``static/views``."""

import importlib
import threading

from sb3_lecture.lab.page import Page

#: name (of the module here, of the view, in the URL) → title; in the order of the menu
PAGES = {
    "treasure_line": "Treasure line",
    "gridworld": "Gridworld editor",
    "planning": "Planning",
    "cliff": "Cliff",
    "bandits": "Bandits",
    "random_walk": "Random walk",
    "boards": "Boards",
    "search_tree": "Search tree",
    "runs": "Runs",
}
#: what the command line has said and pages need: the folder of the runs
OPTIONS = {"logs": "logs"}


#: one thread at a time imports: two that meet the same modules in another order wait for each other, and one of them fails
IMPORTING = threading.RLock()
_READY: set[str] = set()


def make_page(name: str) -> Page:
    """A fresh page; the first of its name draws once, which imports what a picture needs.

    :param name: a key of ``PAGES``
    """
    with IMPORTING:
        page: Page = importlib.import_module(f"sb3_lecture.lab.pages.{name}").make()
        if name not in _READY:
            page.state()
            _READY.add(name)
    return page
