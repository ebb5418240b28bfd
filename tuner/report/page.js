"use strict";
// Sorts a table by the column whose heading is clicked; a second click turns it round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const place = heading.cellIndex;
    const down = heading.getAttribute("aria-sort") === "ascending";
    const body = heading.closest("table").tBodies[0];
    const key = (row) => {
      const cell = row.cells[place];
      const number = cell.dataset.key;
      return number === undefined ? cell.textContent.trim() : Number(number);
    };
    const rows = Array.from(body.rows, (row) => [key(row), row]);
    rows.sort(([one], [other]) => {
      // What is missing comes last, whichever way round.
      if (one === "-" || other === "-") return (one === "-") - (other === "-");
      const order = typeof one === "number" && typeof other === "number"
        ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
}
