/* What scrolls must be reachable by keyboard. The theme sees to code whenever the window is
   resized; here also when a folded part opens, and to figures that are wider than a phone. */
(() => {
  "use strict";
  const layOut = () => window.dispatchEvent(new Event("resize"));
  const reachFigures = () => {
    for (const figure of document.querySelectorAll(".cell_output figure")) {
      if (figure.scrollWidth > figure.clientWidth) figure.tabIndex = 0;
      else figure.removeAttribute("tabindex");
    }
  };
  document.addEventListener("toggle", layOut, true); // it does not bubble
  document.addEventListener("click", ({ target }) => {
    if (target.closest(".admonition-title")) layOut();
  });
  window.addEventListener("load", reachFigures);
  window.addEventListener("resize", reachFigures);
})();
