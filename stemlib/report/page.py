"""The page: one HTML file that opens anywhere, offline and on a phone."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.55 system-ui, sans-serif; color: #1c1c1e; background: #fff; margin: 0 auto; padding: 1rem;
       max-width: 46rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.2rem 0 .4rem; border-top: 1px solid #ddd; padding-top: 1rem; }
p { margin: .6rem 0; }
.lead { font-size: 1.08rem; background: #f3f6fa; border-left: 4px solid #0173b2; padding: .6rem .9rem; }
figure { margin: 1rem 0; text-align: center; }
figure img { width: 100%; max-width: 30rem; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e5e5e5; }
th, td { overflow-wrap: normal; }
th { min-width: 4.5rem; }
th:first-child, td:first-child { text-align: left; min-width: 8rem; }
summary { margin-top: 2.2rem; cursor: pointer; } dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; }
.caption { color: #555; font-size: .85rem; margin-bottom: .3rem; }
code { background: #f3f3f3; padding: 0 .2rem; }
footer { color: #555; font-size: .85rem; margin-top: 3rem; }
"""


@dataclass(frozen=True)
class Answer:
    """A question, what the numbers say (as capitalised sentences), the name of its figure, and the figure in words."""

    question: str
    sentences: list[str]
    figure: str
    alt: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentences", [line[0].upper() + line[1:] for line in self.sentences])


def page(
    title: str,
    lead: Sequence[str],
    read: Sequence[str],
    answers: Sequence[Answer],
    figures: dict[str, Path],
    tables: dict[str, tuple[str, pd.DataFrame]],
    terms: Mapping[str, str],
    footer: str,
) -> str:
    """The whole page.

    Args:
        title: of the page.
        lead: what to know first.
        read: what was read, line by line.
        answers: in order.
        figures: SVG files by the names that the answers give, to which a hyphen and more may be added.
        tables: caption and rows, by the name of the figure that they follow.
        terms: what the page's words mean.
        footer: how it was made.
    """
    parts = [f"<h1>{escape(title)}</h1>", f'<div class="lead">{_paragraphs(lead)}</div>']
    parts += ["<section><h2>What was read</h2><ul>", *(f"<li>{escape(line)}</li>" for line in read), "</ul></section>"]
    for answer in answers:
        parts += [f'<section id="{answer.figure}"><h2>{escape(answer.question)}</h2>', _paragraphs(answer.sentences)]
        for name, path in figures.items():
            if name.partition("-")[0] == answer.figure:
                source = f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
                parts.append(f'<figure><img src="{source}" alt="{escape(answer.alt, quote=True)}"></figure>')
        if answer.figure in tables:
            caption, rows = tables[answer.figure]
            html = rows.rename_axis(index=None, columns=rows.index.name).to_html(border=0, justify="inherit", na_rep="")
            parts.append(f'<p class="caption">{escape(caption)}</p><div class="wide" tabindex="0">{html}</div>')
        parts.append("</section>")
    told = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in terms.items())
    parts.append(f"<details><summary>Words on this page</summary><dl>{told}</dl></details>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(parts)
        + f"\n</main><footer><p>{escape(footer)}</p></footer></body></html>\n"
    )


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
