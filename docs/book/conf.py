"""Sphinx's settings, and the links that the book adds: to the API, the glossary, statements of the theory, chapters."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.transforms import SphinxTransform

sys.path.insert(0, str(Path(__file__).parent))
from glossary import glossary_rows, slug

from study.paths import NOTEBOOKS

project, author, copyright = (
    "The STEM-GNN study",
    "the STEM-GNN study authors",
    "the STEM-GNN study authors, MIT licence",
)
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
default_role = "py:obj"  # single backticks in docstrings: a link if there is such an object, otherwise code
pygments_style = "a11y-high-contrast-light"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["../_build/source/_static"]
html_css_files, html_js_files = ["book.css"], ["zoom.js"]
html_show_sourcelink = html_copy_source = False
html_show_search_summary = False  # it fetches pages, which a browser refuses for a book that is opened as files
html_last_updated_fmt = None  # the same sources give the same pages
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "article_header_end": ["search-button", "toggle-secondary-sidebar"],
    "navbar_persistent": [],
    "pygments_light_style": pygments_style,
}
html_context = {"default_mode": "light"}  # the figures' background is white
mathjax_path = "mathjax.js"  # one file with everything; it draws SVG and needs no fonts
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "local"}}

ROWS = glossary_rows()
TERMS = {slug(term) for row in ROWS.values() for term in row}
CHAPTERS = {path.name[:2]: f"/notebooks/{path.stem}" for path in NOTEBOOKS.glob("*.ipynb")}
CITED = re.compile(r"(?:[Cc]hapter (\d\d)|[Ss]tatement (\d\.\d+))\b")
NO_LINKS = (nodes.reference, nodes.literal, nodes.literal_block, nodes.title, nodes.math, nodes.raw, pending_xref)


def link(domain: str, kind: str, target: str, inside: nodes.Node, document: str) -> pending_xref:
    """A link that is resolved when all pages have been read; if there is no such target, what is inside it stays."""
    known = {"refdomain": domain, "reftype": kind, "reftarget": target, "refdoc": document, "refexplicit": True}
    return pending_xref("", inside, **known, refwarn=False)


class Links(SphinxTransform):
    """Turns what is named in plain Markdown, which reads well without the book, into links."""

    default_priority = 600

    def apply(self, **kwargs: object) -> None:
        """Note the targets of a page, then link what it names."""
        self.page, self.seen = self.env.docname, set()
        if self.page == "docs/glossary":
            self.targets("term-", [row for row in self.document.findall(nodes.row)])
        if self.page == "docs/theory":
            self.targets("statement-", [part for part in self.document.findall(nodes.section)])
        for node in list(self.document.findall()):
            if isinstance(node, (nodes.literal, nodes.emphasis, nodes.strong)):
                self.name(node)
            elif isinstance(node, nodes.Text) and not self.inside(node, NO_LINKS):
                self.citations(node)

    def inside(self, node: nodes.Node, kinds: tuple[type, ...]) -> bool:
        """Whether one of the nodes around it is of these kinds."""
        while node := node.parent:
            if isinstance(node, kinds):
                return True
        return False

    def targets(self, prefix: str, found: list[nodes.Element]) -> None:
        """Give the glossary's rows and the theory's statements an address."""
        known = self.env.get_domain("std").anonlabels
        for node in found:
            first = node[0].astext()
            number = re.match(r"\d\.\d+", first)
            names = ROWS.get(first, []) if prefix == "term-" else [number.group()] if number else []
            for name in names:
                label = prefix + (slug(name) if prefix == "term-" else name)
                node["ids"].append(nodes.make_id(label))
                known[label] = self.page, node["ids"][-1]

    def name(self, node: nodes.Element) -> None:
        """Link an object's full name, a file of the library, and the first mention of a term."""
        text = node.astext()
        term = f"term-{slug(text)}"
        if self.inside(node, NO_LINKS):
            return
        if isinstance(node, nodes.literal) and text.startswith("stemlib."):
            node.replace_self(link("py", "obj", text, node.deepcopy(), self.page))
        elif isinstance(node, nodes.literal) and re.fullmatch(r"stemlib/[\w/]+\.py", text):
            module = text.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            node.replace_self(link("py", "mod", module, node.deepcopy(), self.page))
        elif self.page.startswith("notebooks/") and slug(text) in TERMS and term not in self.seen:
            self.seen.add(term)
            node.replace_self(link("std", "ref", term, node.deepcopy(), self.page))

    def citations(self, node: nodes.Text) -> None:
        """Link `chapter 06` and `Statement 3.7`."""
        pieces, text, done = [], node.astext(), 0
        for cited in CITED.finditer(text):
            chapter, statement = cited.groups()
            target = CHAPTERS.get(chapter) if chapter else f"statement-{statement}"
            if target and target != f"/{self.page}":
                words = nodes.inline("", cited.group())
                pieces += [nodes.Text(text[done : cited.start()])]
                pieces += [link("std", "doc" if chapter else "ref", target, words, self.page)]
                done = cited.end()
        if pieces:
            node.parent.replace(node, [*pieces, nodes.Text(text[done:])])


def restructured(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Turn a docstring, with Google's sections and code in single backticks, into reStructuredText, in place."""
    text = "\n".join(lines)
    text = re.sub(r":\n\n(?=  )", "::\n\n", text)  # what is indented after a colon stays as it is
    pieces = re.split(r"(::\n\n(?: .*\n|\n)+|``.+?``|`[^`]+`)", text)
    for i, piece in enumerate(pieces):
        if piece.startswith("::"):
            continue
        if i % 2 == 0:
            piece = re.sub(r"([|*])", r"\\\1", piece)
            pieces[i] = "\\ " + piece if i and piece[:1].isalnum() else piece
        elif not re.fullmatch(r"`+[\w.]+`+", piece):
            pieces[i] = f"``{' '.join(piece.strip('`').split())}``"  # not an object's name
    # A property's first line would be taken for `type: description`.
    kind = "object" if what in ("attribute", "property", "data") else what
    lines[:] = GoogleDocstring("".join(pieces).split("\n"), Config(), app, kind, name, found, options).lines()


def not_told(app: Sphinx, what: str, name: str, found: object, skip: bool, options: object) -> bool | None:
    """Leave out a named tuple's fields, whose docstrings are Python's own; the class names them."""
    return True if type(found).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> None:
    """Register all this with Sphinx."""
    app.add_transform(Links)
    app.connect("autodoc-process-docstring", restructured)
    app.connect("autodoc-skip-member", not_told)
