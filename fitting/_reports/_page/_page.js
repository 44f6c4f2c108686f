"use strict";
(() => {
  const table = document.querySelector("table");
  const layers = [...table.tBodies];
  const [search, phase] = [document.querySelector("input"), document.querySelector("select")];
  const status = document.querySelector("[role=status]");

  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const layer of layers) {
      const named = layer.dataset.name.toLowerCase().includes(wanted);
      layer.hidden = !(named && (!phase.value || layer.dataset.phases.split(" ").includes(phase.value)));
      shown += !layer.hidden;
    }
    status.textContent = `${shown} of ${layers.length}`;
  };
  search.addEventListener("input", filter);
  phase.addEventListener("change", filter);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  filter();

  const value = (layer, column) => layer.rows[0].cells[column].dataset.v;
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading || !heading.querySelector("button")) return;
    const column = heading.cellIndex;
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const text = heading.dataset.kind === "text";
    const order = [...layers].sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      // What has no value stays last either way.
      if (x === "" || y === "") return (x === "") - (y === "");
      const by = text ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return up ? by : -by;
    });
    table.append(...order);
  });

  for (const button of table.querySelectorAll(".spectrum")) {
    const row = button.closest("tr");
    const part = row.className === "part" ? row.cells[0].textContent : "";
    button.dataset.name = row.closest("tbody").dataset.name.replace(/\/kernel$/, "") + part;
    button.ariaLabel = "enlarge the spectrum";
    button.ariaExpanded = false;
  }

  const close = () => {
    table.querySelector(".spectrum[aria-expanded=true]")?.setAttribute("aria-expanded", false);
  };
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());

  table.addEventListener("click", (event) => {
    const button = event.target.closest("tbody button");
    if (!button) return;
    const open = button.getAttribute("aria-expanded") !== "true";
    if (button.className === "spectrum") close();
    button.setAttribute("aria-expanded", open);
    if (button.className === "open") {
      for (const row of [...button.closest("tbody").rows].slice(1)) row.hidden = !open;
    }
  });
})();
