"use strict";
(() => {
  const table = document.getElementById("comparison");
  if (!table) return;
  const body = table.tBodies[0];
  table.classList.add("scripted");
  const PAGE = 200;
  const island = document.getElementById("more-rows");
  const packed = island ? JSON.parse(island.textContent) : { reasons: [], rows: [] };
  const mixed = table.dataset.mixed === "yes";
  const heads = Array.from(table.tHead.rows[0].cells);
  const titles = heads.map((head) => head.textContent.trim());
  const numeric = heads.map((head) => head.classList.contains("n"));

  const rows = Array.from(body.rows, (element) => ({
    element,
    values: Array.from(element.cells, (cell) => {
      if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
      return cell.classList.contains("null") ? null : cell.dataset.t ?? cell.textContent.trim();
    }),
  }));
  for (const data of packed.rows) {
    rows.push({
      element: null,
      data,
      values: data.slice(2).map((cell) => (Array.isArray(cell) ? cell[1] : cell)),
    });
  }
  rows.forEach((row, index) => {
    row.index = index;
    row.text = row.values.filter((value) => typeof value === "string").join(" ").toLowerCase();
  });

  function badge(kind, text) {
    const element = document.createElement("span");
    element.className = `badge ${kind}`;
    element.textContent = text;
    return element;
  }

  function build(row) {
    const [status, board, ...cells] = row.data;
    const line = document.createElement("tr");
    line.className = `row-${status}`;
    line.setAttribute("role", "row");
    cells.forEach((cell, index) => {
      const [text, , mark, reason] = Array.isArray(cell) ? cell : [cell, null, "", 0];
      const element = document.createElement(index === 0 ? "th" : "td");
      element.setAttribute("role", index === 0 ? "rowheader" : "cell");
      element.dataset.label = titles[index];
      if (index === 0) element.scope = "row";
      if (numeric[index]) element.classList.add("n");
      element.textContent = text;
      if (heads[index].dataset.key === "status") {
        const shaky = text.endsWith(" !");
        element.replaceChildren(badge(status, shaky ? text.slice(0, -2) : text));
        if (shaky) element.append(" ", badge("unstable", "unstable"));
        element.classList.add("status");
      }
      if (index === 0 && board) {
        const small = document.createElement("small");
        small.textContent = board;
        element.append(small);
      }
      if (numeric[index] && !mark) element.classList.add("null");
      if (reason) {
        element.title = packed.reasons[reason - 1];
        if (document.getElementById(`note-${reason}`)) {
          const link = document.createElement("a");
          link.href = `#note-${reason}`;
          link.textContent = reason;
          const sup = document.createElement("sup");
          sup.append(link);
          element.append(sup);
        }
      } else if (mark && mixed) {
        const sup = document.createElement("sup");
        sup.textContent = mark;
        element.append(sup);
      }
      line.append(element);
    });
    return line;
  }

  let order = rows;
  let page = 0;
  const pager = document.getElementById("pager");

  function show() {
    const pages = Math.max(1, Math.ceil(order.length / PAGE));
    page = Math.min(Math.max(0, page), pages - 1);
    const part = order.slice(page * PAGE, (page + 1) * PAGE);
    body.replaceChildren(...part.map((row) => (row.element ??= build(row))));
    if (!pager) return;
    const first = order.length ? page * PAGE + 1 : 0;
    pager.querySelector("output").textContent =
      `Rows ${first.toLocaleString("en")} to ${(page * PAGE + part.length).toLocaleString("en")}` +
      ` of ${order.length.toLocaleString("en")}`;
    pager.querySelector("[data-step='-1']").disabled = page === 0;
    pager.querySelector("[data-step='1']").disabled = page === pages - 1;
  }

  let sorted = -1;
  let descending = false;
  let wanted = "";

  function arrange() {
    order = wanted ? rows.filter((row) => row.text.includes(wanted)) : rows.slice();
    if (sorted >= 0) {
      const sign = descending ? -1 : 1;
      order.sort((a, b) => {
        const [x, y] = [a.values[sorted], b.values[sorted]];
        const [noX, noY] = [x === null || x === "—", y === null || y === "—"];
        if (noX || noY) return noX - noY || a.index - b.index;
        const difference =
          typeof x === "number" && typeof y === "number"
            ? x - y
            : String(x).localeCompare(String(y), "en", { numeric: true });
        return sign * difference || a.index - b.index;
      });
    }
    page = 0;
    show();
  }

  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    const arrow = document.createElement("span");
    arrow.className = "arrow";
    arrow.setAttribute("aria-hidden", "true");
    button.append(arrow);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      descending = sorted === index ? !descending : head.dataset.better === "high";
      sorted = index;
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      arrange();
    });
  });

  const filter = document.getElementById("filter");
  if (filter) {
    filter.closest("label").hidden = rows.length <= 12;
    filter.addEventListener("input", () => {
      wanted = filter.value.trim().toLowerCase();
      arrange();
    });
  }
  if (pager && rows.length > PAGE) {
    pager.hidden = false;
    const counted = document.getElementById("without-script");
    if (counted) counted.hidden = true;
    for (const button of pager.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        page += Number(button.dataset.step);
        show();
        table.parentElement.scrollTop = 0;
      });
    }
    show();
  }

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) {
      if (!part.closest(".failure")) part.open = true;
    }
  });
})();
