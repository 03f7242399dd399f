/* The theme makes scrolling code reachable by keyboard whenever the window is resized; here also
   when a folded part opens. */
(() => {
  "use strict";
  const layOut = () => window.dispatchEvent(new Event("resize"));
  document.addEventListener("toggle", layOut, true); // it does not bubble
  document.addEventListener("click", ({ target }) => {
    if (target.closest(".admonition-title")) layOut();
  });
})();
