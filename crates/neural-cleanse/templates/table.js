"use strict";

const table = document.querySelector("table.sortable");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const headers = Array.from(table.tHead.rows[0].cells);

  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value === undefined) return cell.textContent;
    return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
  };

  // What has no value comes last, in either direction.
  const compare = (a, b, direction) => {
    if (typeof a === "string") return direction * a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return direction * (a - b);
  };

  const sortBy = (column) => {
    const ascending = headers[column].getAttribute("aria-sort") !== "ascending";
    headers.forEach((header) => header.removeAttribute("aria-sort"));
    headers[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const direction = ascending ? 1 : -1;
    rows.sort((a, b) => compare(key(a, column), key(b, column), direction));
    body.append(...rows);
  };

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(column));
    header.append(button);
  });

  const controls = document.querySelector(".controls");
  const find = controls.querySelector("input");
  const state = controls.querySelector("select");
  const count = controls.querySelector("output");

  const filter = () => {
    const wanted = find.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const text = [row.cells[0], row.cells[1]].map((cell) => cell.textContent.toLowerCase());
      const ofState = !state.value || row.dataset.state === state.value;
      row.hidden = !(ofState && text.some((part) => part.includes(wanted)));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };

  find.addEventListener("input", filter);
  state.addEventListener("change", filter);
  controls.hidden = false;
  filter();
}
