/* What scrolls must be reachable by keyboard. The theme sees to code whenever the window is
   resized; here also when a folded part opens, and to formulas and tables wider than a phone. */
(() => {
  "use strict";
  const layOut = () => window.dispatchEvent(new Event("resize"));
  const wide = ".katex-display, .pst-scrollable-table-container";
  const reachWide = () => {
    for (const element of document.querySelectorAll(wide)) {
      if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
      else element.removeAttribute("tabindex");
    }
  };
  document.addEventListener("toggle", layOut, true); // it does not bubble
  document.addEventListener("click", ({ target }) => {
    if (target.closest(".admonition-title")) layOut();
  });
  window.addEventListener("load", reachWide);
  window.addEventListener("resize", reachWide);
})();
