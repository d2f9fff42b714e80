"""The blocks and commands of the documentation's pages."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("[a-z]*/*.md"))]
#: words in capitals stand for what the reader has
STANDS_FOR = re.compile(r"\bmy_|\b[A-Z]{1,2}\b|[A-Z_]{3,}|…|\.\.\.|RUN|<")


def blocks(path, *languages):
    """The fenced blocks of a page in these languages, with the number of their first line."""
    found = []
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        if match[1] in languages:
            found.append((path.read_text()[: match.start()].count("\n") + 2, match[2]))
    return found


def commands():
    """Every command of ours in a block: (page:line, words)."""
    found = []
    for path in PAGES:
        for line, block in blocks(path, "", "sh", "bash", "console"):
            for k, text in enumerate(block.replace("\\\n", "  ").splitlines()):
                text = text.removeprefix("$ ").strip()
                match = re.match(r"(?:python scripts/(train|enjoy|plot|tune)\.py|sb3-lecture)\b(.*)", text)
                if match and not STANDS_FOR.search(match[2].split("  #")[0]) and "|" not in match[2]:
                    words = shlex.split((([match[1]] if match[1] else []) and match[1] + match[2]) or match[2], comments=True)
                    if words:
                        found.append((f"{path.relative_to(ROOT)}:{line + k}", tuple(words)))
    return found


def indexed():
    """The commands in README's table of demos, and the pages that it names."""
    rows = re.findall(r"^\| (.*\]\(.*\).*) \| `sb3-lecture (.*)` \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return [(re.findall(r"\]\(([^)]*)\)", demo), tuple(shlex.split(command))) for demo, command in rows]


README_INDEX = [("README.md: demos", words) for _, words in indexed()]
COMMANDS = sorted({words: where for where, words in reversed([*commands(), *README_INDEX])}.items(), key=lambda item: item[1])
