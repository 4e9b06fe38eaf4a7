"use strict";
// Tables of class "sortable": a click on a heading sorts by it, a second click turns the order.
(() => {
  const key = (cell) => {
    const data = cell.querySelector("data");
    const number = data && data.value !== "" ? Number(data.value) : NaN;
    return Number.isNaN(number) ? cell.textContent.trim().toLowerCase() : number;
  };
  const compare = (a, b) => {
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = Array.from(table.tHead.rows[0].cells);
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const falling = heading.getAttribute("aria-sort") === "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = Array.from(table.tBodies[0].rows);
        const sorted = rows.map((row) => [key(row.cells[column]), row]);
        sorted.sort((a, b) => (falling ? -1 : 1) * compare(a[0], b[0]));
        table.tBodies[0].append(...sorted.map((pair) => pair[1]));
      });
    });
  }
})();
