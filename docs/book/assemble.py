"""Lay out the book's sources in `docs/_build/source`: chapters, documents, the library's modules, the data sets.

Folders are those of the repository, so that links that work there work in the book. Nothing is executed. What a page
needs beyond its source follows from rules: plumbing is folded, figures get alternative texts and their sharp files.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import pkgutil
import re
from functools import cache
from pathlib import Path

import numpy as np
from data_set_pages import data_set_pages
from PIL import Image
from plumbing import is_plumbing

import stemlib
from study.paths import FIGURES, NOTEBOOKS, ROOT

SOURCE = ROOT / "docs" / "_build" / "source"
PACKAGES = ROOT / "docs" / "_build" / "npm" / "node_modules"  # of `make book`
HERE = Path(__file__).parent
OWN_PLACE = ("theory", "paper_to_code", "glossary", "reproducibility", "own_data")  # in the landing page's lists
SAME = 6.0  # grey levels of 255: if two small pictures differ by less, they are one figure


def write(path: Path, content: str | bytes) -> Path:
    """Write a file of the book unless it is the same already: Sphinx reads newer files again."""
    content = content.encode() if isinstance(content, str) else content
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


# --- chapters


def chapter(path: Path) -> str:
    """A notebook as the book shows it, JSON."""
    notebook = json.loads(path.read_text())
    prose = ""
    for cell, following in zip(notebook["cells"], [*notebook["cells"][1:], None], strict=True):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            prose = f"{prose}\n{source}"
            continue
        after = "".join(following["source"]) if following and following["cell_type"] == "markdown" else ""
        shown = [output["data"] for output in cell["outputs"] if "data" in output]
        pictures = [data for data in shown if "image/png" in data]
        for data in shown:
            if "text/html" in data:  # pandas: a corner of a table heads nothing
                data["text/html"] = "".join(data["text/html"]).replace("<th></th>", "<td></td>")
        if is_plumbing(source, drawn=bool(pictures)):
            tags = cell["metadata"].setdefault("tags", [])
            tags += [] if "hide-input" in tags else ["hide-input"]
        if pictures:
            cell["metadata"]["mystnb"] = {"image": {"alt": alternative_text(prose, after)}}
        for data in pictures:
            data["image/png"] = sharp("".join(data["image/png"]), path.name[:2])
    if path.parent != NOTEBOOKS:
        notebook["metadata"]["orphan"] = True  # a chapter's solutions are in no list
    notebook["metadata"].pop("widgets", None)  # progress bars: their script would come from outside
    return json.dumps(notebook)


def alternative_text(before: str, after: str) -> str:
    """What replaces a figure that is not seen: its section, and the sentence that leads to it or follows it."""
    headings = re.findall(r"^#+ (.+)$", before, re.MULTILINE)
    paragraphs = [re.sub(r"^[#|\-$].*$", "", text, flags=re.MULTILINE) for text in (before, after)]
    blocks = [[block for block in re.split(r"\n\s*\n", text) if block.strip()] for text in paragraphs]
    said = (blocks[1][:1] or blocks[0][-1:] or [""])[0]
    sentence = re.split(r"(?<=[.:?!])\s", " ".join(said.split()))[0]
    words = f"{headings[-1] if headings else ''}. {sentence}"
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", words).translate(str.maketrans("", "", "*`$\\{}")).strip(".: ")


def sharp(png: str, number: str) -> str:
    """The committed figure of a chapter that looks like a notebook's small copy, or else the copy; base64."""
    small = thumbnail(base64.b64decode(png))
    far = {path: np.abs(small - thumbnail(path.read_bytes())).mean() for path in FIGURES.glob(f"{number}_*.png")}
    nearest = min(far, key=far.get, default=None)
    return base64.b64encode(nearest.read_bytes()).decode() if nearest and far[nearest] < SAME else png


@cache
def thumbnail(png: bytes) -> np.ndarray:
    """A picture in grey without its margins, `[48, 96]`, and its form as a last line that outweighs the rest."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA").convert("L")
    inked = Image.fromarray(np.asarray(picture) < 250).getbbox()
    picture = picture.crop(inked)
    form = np.full((1, 96), 2e3 * np.log(picture.width / picture.height))
    return np.vstack([np.asarray(picture.resize((96, 48), Image.Resampling.BOX), float), form])


def title(path: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(path.read_text())["cells"]
    return next(re.search(r"^# (.+)$", "".join(cell["source"]), re.MULTILINE).group(1) for cell in cells)


def landing_page() -> str:
    """`index.md` with its lists of chapters and documents filled in."""
    chapters = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    others = sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem not in OWN_PLACE)
    lists = {
        "chapters": [f"- {path.name[:2]} [{title(path)}](notebooks/{path.name})" for path in chapters],
        "chapter tree": [f"{path.stem.replace('_', ' ')} <notebooks/{path.stem}>" for path in chapters],
        "documents": [f"docs/{name}" for name in others],
    }
    text = (HERE / "index.md").read_text()
    for name, lines in lists.items():
        text = text.replace(f"% {name}\n", "".join(f"{line}\n" for line in lines))
    return text


# --- the library


def api_pages() -> dict[str, str]:
    """A page for every module of the library, one for every package ("room"), and their index, by name."""
    rooms: dict[str, list[str]] = {"stemlib": []}
    for found in pkgutil.walk_packages(stemlib.__path__, "stemlib."):
        if found.ispkg:
            rooms[found.name] = []
        elif not found.name.endswith("__main__"):
            rooms[found.name.rpartition(".")[0]].append(found.name)
    pages = {name: module_page(name) for modules in rooms.values() for name in modules}
    for room, modules in rooms.items():
        inner = [name for name in rooms if name.rpartition(".")[0] == room]
        pages["index" if room == "stemlib" else room] = room_page(room, inner + modules)
    return pages


def module_page(name: str) -> str:
    """What the docstrings of a module say."""
    return f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


def room_page(room: str, inside: list[str]) -> str:
    """What is in a package, with the first sentence of each module."""
    docs = {name: (importlib.import_module(name).__doc__ or "").strip().split("\n\n")[0] for name in inside}
    rows = [f"| [{name}]({name}.md) | {' '.join(doc.split())} |" for name, doc in docs.items()]
    head = "The library" if room == "stemlib" else room
    told = f"# {head}\n\n```{{eval-rst}}\n.. automodule:: {room}\n```\n\n| module | what it has |\n| --- | --- |\n"
    tree = [f"{name.removeprefix('stemlib.')} <{name}>" for name in inside]
    return told + "\n".join([*rows, "", "```{toctree}", ":hidden:", "", *tree, "```", ""])


def assemble() -> None:
    """Write all sources; remove files that no longer have one."""
    notebooks = [*NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"), *NOTEBOOKS.glob("solutions/[0-9][0-9]_*.ipynb")]
    chapters = {f"notebooks/{path.relative_to(NOTEBOOKS)}": chapter(path) for path in notebooks}
    documents = {f"docs/{path.name}": path.read_text() for path in (ROOT / "docs").glob("*.md")}
    modules = {f"api/{name}.md": page for name, page in api_pages().items()}
    figures = {f"figures/{path.name}": path.read_bytes() for path in FIGURES.iterdir()}
    own = {f"_static/{path.name}": path.read_bytes() for path in (HERE / "static").iterdir()}
    own["_static/mathjax.js"] = (PACKAGES / "mathjax/es5/tex-svg-full.js").read_bytes()
    pages = {"index.md": landing_page(), **chapters, **documents, **modules, **figures, **own, **data_set_pages()}
    kept = {write(SOURCE / name, content) for name, content in pages.items()}
    for path in SOURCE.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()


if __name__ == "__main__":
    assemble()
