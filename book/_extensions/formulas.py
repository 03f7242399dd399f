"""Formulas of the site, set by KaTeX at build time: a page needs its style and fonts, no script."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import SphinxError
from sphinx.util.math import get_node_equation_number

DIST = Path(__file__).parent / "node_modules" / "katex" / "dist"
SCRIPT = f"""
const katex = require({json.dumps(str(DIST / "katex.min.js"))});
require("readline").createInterface({{ input: process.stdin }}).on("line", (line) => {{
  const {{ tex, displayMode }} = JSON.parse(line);
  let answer;
  try {{
    answer = {{ html: katex.renderToString(tex, {{ displayMode, strict: "error" }}) }};
  }} catch (error) {{
    answer = {{ error: error.message }};
  }}
  console.log(JSON.stringify(answer));
}});
"""


@cache
def renderer() -> subprocess.Popen:
    """Start the process that sets formulas, one a line; it ends with this one."""
    return subprocess.Popen(
        ["node", "-e", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        bufsize=1,
    )


def render(tex: str, *, display: bool) -> str:
    """Set a formula.

    Parameters
    ----------
    tex : str
        LaTeX, without dollars.
    display : bool
        Whether it stands in a line of its own.

    Returns
    -------
    str
        HTML to look at and MathML to be read out.

    Raises
    ------
    SphinxError
        If KaTeX does not understand it.
    """
    process = renderer()
    print(json.dumps({"tex": tex, "displayMode": display}), file=process.stdin)
    answer = json.loads(process.stdout.readline())
    if "error" in answer:
        raise SphinxError(f"{answer['error']}\n{tex}")
    return answer["html"]


def visit_inline(writer, node: nodes.math) -> None:
    """Write a formula in a sentence."""
    writer.body.append(f'<span class="math">{render(node.astext(), display=False)}</span>')
    raise nodes.SkipNode


def visit_block(writer, node: nodes.math_block) -> None:
    """Write a formula in a line of its own, with its number and a link to it."""
    writer.body.append(writer.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(writer, node)
        writer.body.append(f'<span class="eqno">({number})')
        writer.add_permalink_ref(node, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append(render(node.astext(), display=True) + "</div>\n")
    raise nodes.SkipNode


def bring_style(app: Sphinx, config: Config) -> None:
    """Copy KaTeX's style and fonts into the site."""
    style = (DIST / "katex.min.css").read_text(encoding="utf-8")
    # Every browser of the last ten years reads the first of the three formats.
    style = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)', "", style)
    folder = Path(app.outdir).parent / "katex"
    shutil.rmtree(folder, ignore_errors=True)
    unread = shutil.ignore_patterns("*.woff", "*.ttf")
    shutil.copytree(DIST / "fonts", folder / "fonts", ignore=unread)
    (folder / "katex.min.css").write_text(style, encoding="utf-8")
    config.html_static_path.append(str(folder))
    app.add_css_file("katex.min.css")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_block, None))
    app.connect("config-inited", bring_style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
