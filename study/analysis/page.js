for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, column) => {
    const text = row.cells[column].textContent.replaceAll(",", "");
    return text === "" ? NaN : text === "∞" ? Infinity : isNaN(text) ? text : Number(text);
  };
  const compare = (a, b) =>
    typeof a === "string" || typeof b === "string" ? String(a).localeCompare(String(b)) : a - b;
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const known = [], unknown = []; // what has no value stays below
    for (const row of body.rows) (Object.is(value(row, column), NaN) ? unknown : known).push(row);
    known.sort((a, b) => (down ? -1 : 1) * compare(value(a, column), value(b, column)));
    body.append(...known, ...unknown);
  }));
}
window.addEventListener("beforeprint", () =>
  document.querySelectorAll("details").forEach((part) => (part.open = true)));
