"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const add = (parent, tag, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    return parent.appendChild(element);
  };

  // Claims: buttons show those of one verdict.
  const filter = byId("claim-filter");
  if (filter) {
    const claims = [...byId("claim-list").rows];
    const buttons = [...filter.querySelectorAll("button")];
    filter.hidden = false;
    filter.addEventListener("click", (event) => {
      const chosen = event.target.closest("button");
      if (!chosen) return;
      const verdict = chosen.dataset.verdict;
      for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
      for (const claim of claims) claim.hidden = verdict !== "" && claim.dataset.verdict !== verdict;
      const shown = claims.filter((claim) => !claim.hidden).length;
      byId("claim-count").textContent = `${shown} of ${claims.length} claims`;
    });
    // paper has no buttons: print all
    let hidden = [];
    addEventListener("beforeprint", () => {
      hidden = claims.filter((claim) => claim.hidden);
      for (const claim of hidden) claim.hidden = false;
    });
    addEventListener("afterprint", () => { for (const claim of hidden) claim.hidden = true; });
  }

  // Explorer: a row a class, a column a run of the chosen split and backbone.
  const form = byId("explorer");
  if (!form) return;
  const data = JSON.parse(byId("explorer-data").textContent);
  const table = byId("explorer-table");
  const SETS = { voc: "20 VOC classes", nonvoc: "60 non-VOC classes", voc20: "VOC and 20 others", all: "all classes" };
  const TASKS = { segm: "masks", bbox: "boxes" };
  const PAIR = ["opmask", "maskrcnn"];
  let sort = { column: 0, up: true };

  const offer = (name, values, words = {}, first) => {
    const select = form.elements[name];
    if (first) add(select, "option", first).value = "";
    for (const value of new Set(values)) add(select, "option", words[value] ?? value).value = value;
  };
  const sets = data.runs.map((run) => run.supervised);
  offer("supervised", [...Object.keys(SETS).filter((name) => sets.includes(name)), ...sets], SETS);
  offer("backbone", data.runs.map((run) => run.backbone));
  offer("method", data.runs.map((run) => run.method), data.labels, "all");
  offer("task", Object.keys(TASKS).filter((task) => data.results.some((one) => one[1] === task)), TASKS);
  offer("metric", data.metrics);

  const number = (value) => (value === null ? "–" : value.toFixed(1).replace("-0.0", "0.0").replace("-", "−"));
  const signed = (value) => (value >= 0.05 ? "+" : "") + number(value);

  // What is compared: columns with a value by class, and the gain if both methods are there.
  const columns = (want) => {
    const metric = 3 + data.metrics.indexOf(want.metric);
    const found = [];
    for (const [index, task, rows] of data.results) {
      const run = data.runs[index];
      if (task !== want.task || run.supervised !== want.supervised || run.backbone !== want.backbone) continue;
      if (want.method && run.method !== want.method) continue;
      found.push({ run, values: new Map(rows.map((row) => [row[0], row[metric]])), rows, show: number });
    }
    for (const one of found) {
      const alike = found.filter((other) => other.run.method === one.run.method).length > 1;
      one.title = data.labels[one.run.method] + (alike ? `, ${one.run.schedule}` : "");
      if (one.run.seeds > 1) one.title += ` (${one.run.seeds} seeds)`;
    }
    const [ours, base] = PAIR.map((method) => found.find((one) => one.run.method === method && found.some(
      (other) => PAIR.includes(other.run.method) && other.run.method !== method && other.run.schedule === one.run.schedule)));
    if (ours && base) {
      const values = new Map();
      for (const [key, value] of ours.values) {
        const other = base.values.get(key) ?? null;
        values.set(key, value === null || other === null ? null : value - other);
      }
      found.push({ title: `${data.labels.opmask} − ${data.labels.maskrcnn}`, values, rows: [], show: signed });
    }
    return found;
  };

  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last
    const order = typeof a === "string" ? a.localeCompare(b) : a - b;
    return sort.up ? order : -order;
  };

  const draw = () => {
    const want = Object.fromEntries(new FormData(form));
    const shown = columns(want);
    const about = new Map(shown.flatMap((one) => one.rows.map((row) => [row[0], row])));
    const search = want.name.trim().toLowerCase();
    const lines = [...about.values()]
      .filter((row) => want.classes === "all" || (row[2] === 1) === (want.classes === "novel"))
      .filter((row) => data.categories[row[0]].toLowerCase().includes(search))
      .map((row) => [data.categories[row[0]], row[2] ? "novel" : "supervised", row[1],
        ...shown.map((one) => one.values.get(row[0]) ?? null)]);
    if (sort.column >= 3 + shown.length) sort = { column: 0, up: true };
    lines.sort((a, b) => compare(a[sort.column], b[sort.column]) || a[0].localeCompare(b[0]));

    const titles = ["Class", "Masks", "Objects", ...shown.map((one) => one.title)];
    const head = document.createElement("tr");
    titles.forEach((title, column) => {
      const cell = add(head, "th");
      cell.scope = "col";
      if (column < 2) cell.className = "left";
      cell.setAttribute("aria-sort", column !== sort.column ? "none" : sort.up ? "ascending" : "descending");
      const button = add(cell, "button", title);
      button.type = "button";
      button.dataset.column = column;
    });
    const text = (value, column) => (column < 2 ? value : column === 2 ? value ?? "–" : shown[column - 3].show(value));
    const body = lines.map((line) => {
      const row = document.createElement("tr");
      line.forEach((value, column) => {
        const cell = add(row, column ? "td" : "th", text(value, column));
        if (!column) cell.scope = "row";
        if (column < 2) cell.className = "left";
      });
      return row;
    });
    const foot = document.createElement("tr");
    const first = add(foot, "th", "mean");
    first.scope = "row";
    first.className = "left";
    add(foot, "td"); add(foot, "td");
    shown.forEach((one, index) => {
      const known = lines.map((line) => line[3 + index]).filter((value) => value !== null);
      const mean = known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
      add(foot, "td", one.show(mean));
    });
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...body);
    table.tFoot.replaceChildren(...(lines.length ? [foot] : []));
    byId("explorer-count").textContent = shown.length
      ? `${lines.length} of ${about.size} classes` : "No such run: choose another split, backbone or method.";
  };

  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const column = Number(button.dataset.column);
    sort = { column, up: column === sort.column ? !sort.up : column < 2 };
    draw();
    table.tHead.querySelectorAll("button")[column].focus();
  });
  form.addEventListener("input", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  draw();
})();
