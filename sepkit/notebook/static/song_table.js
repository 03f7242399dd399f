/* <song-table>: a table that sorts by its headings' buttons and filters by a text. The markup is
   written by sepkit/songtable.py; this script brings it to life. */
(() => {
  "use strict";
  if (customElements.get("song-table")) return;

  class SongTable extends HTMLElement {
    connectedCallback() {
      if (this.rows) return;
      // With the script in the page's head, the element is met before its content.
      if (document.readyState !== "loading") this.setUp();
      else document.addEventListener("DOMContentLoaded", () => this.setUp(), { once: true });
    }

    setUp() {
      this.body = this.querySelector("tbody");
      this.rows = [...this.body.rows];
      this.status = this.querySelector(".song-count");
      this.headings = [...this.querySelectorAll("thead th")];
      for (const [column, heading] of this.headings.entries()) {
        heading.querySelector("button").addEventListener("click", () => this.sort(column));
      }
      const filter = this.querySelector(".song-filter");
      filter.hidden = false;
      filter.querySelector("input").addEventListener("input", (event) => {
        this.filter(event.target.value);
      });
    }

    /** Sort by a column: numbers from the highest, text from A; a second click turns it round. */
    sort(column) {
      const heading = this.headings[column];
      const number = this.rows[0].cells[column].dataset.value !== undefined;
      const now = heading.getAttribute("aria-sort");
      const first = number ? "descending" : "ascending";
      const turned = number ? "ascending" : "descending";
      const order = now === first ? turned : first;
      for (const other of this.headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => {
        const cell = row.cells[column];
        if (!number) return cell.textContent;
        return cell.dataset.value === "" ? null : Number(cell.dataset.value);
      };
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (number ? x - y : x.localeCompare(y));
      };
      this.body.append(...this.rows.sort(compare));
      this.status.textContent = `Sorted by ${heading.textContent}, ${order}`;
    }

    filter(text) {
      const words = text.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of this.rows) {
        const content = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => content.includes(word));
        shown += !row.hidden;
      }
      this.status.textContent = `${shown} of ${this.rows.length} songs`;
    }
  }

  customElements.define("song-table", SongTable);
})();
